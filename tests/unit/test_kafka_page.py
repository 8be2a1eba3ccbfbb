"""docs/kafka.md lists the topics with the settings that the service gives them."""

import re
from pathlib import Path

from epistream.services.kafka.topics import settings
from epistream.wire.topics import SUBMISSIONS, TOLD, dead_letter_topic

PAGE = (Path(__file__).parents[2] / "docs/kafka.md").read_text()
SECTION = PAGE.partition("\n## The topics\n")[2].partition("\n## ")[0]
SETTING = re.compile(r"`([a-z.]+)=([\w-]+)`")


def listed() -> dict[str, dict[str, str]]:
    """The settings of each topic that has a row, with those that are said of all."""
    columns, *_ = re.findall(r"^\| topic \|(.+)\| also \|$", SECTION, re.MULTILINE)
    names = re.findall(r"`([a-z.]+)`", columns)
    (of_all,) = re.findall(r"^All have (.+)$", SECTION, re.MULTILINE)
    topics = {}
    for topic, cells in re.findall(r"^\| `(epistream\.[\w.]+)` \|(.+)\|$", SECTION, re.MULTILINE):
        *values, also = cells.split(" |")
        given = {
            name: value[1] for name, cell in zip(names, values, strict=True) if (value := re.search(r"`(.+?)`", cell))
        }
        topics[topic] = given | dict(SETTING.findall(also)) | dict(SETTING.findall(of_all))
    return topics


def test_the_topics_are_listed_as_the_service_makes_them_with_three_copies() -> None:
    topics = (*SUBMISSIONS, *map(dead_letter_topic, SUBMISSIONS), *TOLD)
    assert listed() == {topic: settings(topic, 3) for topic in topics}


def test_another_topic_and_its_dead_letters_get_what_is_said() -> None:
    of_all = listed()
    assert settings("readings.v1", 3) == of_all[SUBMISSIONS[0]]
    assert settings(dead_letter_topic("readings"), 3) == of_all[dead_letter_topic(SUBMISSIONS[0])]


def test_days_are_what_the_milliseconds_are() -> None:
    told = re.findall(r"`(?:[a-z.]+=)?(\d+)`, (\d+) days", SECTION)
    assert told
    assert all(int(milliseconds) == int(days) * 24 * 60 * 60 * 1000 for milliseconds, days in told)
