"""R13 and R14 with the real service, Kafka and the packaged encoder. The table: docs/requirements.md."""

from pathlib import Path

import pytest

from tests.support.following import Following, measure
from tests.support.kafka import Kafka
from tests.support.samples import needs_samples

pytestmark = needs_samples


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka) -> Following:
    return measure(Path(tmp_path_factory.mktemp("following")), kafka)


def test_r13_what_was_published_is_found_by_its_own_questions(following: Following) -> None:
    assert following.found.of >= 180
    assert following.found_before.count == 0
    assert following.found.value >= 0.98


def test_r14_a_consumer_that_was_away_gets_everything_once_and_in_order(following: Following) -> None:
    assert len(following.seconds) >= 40
    assert following.revisions == tuple(range(1, following.head + 1))
