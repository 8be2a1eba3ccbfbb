"""The command line on why something was decided, what raters say of it, and what another policy would decide."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.clients import SyncProducer
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from tests.support.cli import Ran, epistream, epistream_process
from tests.support.rpc import DIMENSION, submission
from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.slow

NAMESPACE = "decided"
MODEL, RATER = "writer", "dr-ada"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Knows an expert's item, holds what a model said without naming its generator, and has a rating of the item."""
    with running_service(tmp_path_factory.mktemp("decisions") / "data") as service:
        created = ("namespaces", "create", NAMESPACE, "--encoder", "none", "--dimension", str(DIMENSION))
        assert epistream(*created, "-a", service.address).code == 0
        with SyncProducer(service.address) as producer:
            producer.submit(submission(NAMESPACE, 1))
            made = submission(NAMESPACE, 2, origin=pb.ORIGIN_SYNTHETIC, submission_id="made-1")
            made.provenance.CopyFrom(pb.Provenance(producer=MODEL))
            (held,) = producer.submit(made)
            assert (held.outcome, held.reason) == (pb.OUTCOME_HELD, pb.REASON_NO_GENERATOR)
            producer.submit(submission(NAMESPACE, 3, origin=pb.ORIGIN_SYNTHETIC))
            producer.submit(rating())
        yield service


def rating() -> pb.Submission:
    return pb.Submission(
        namespace=NAMESPACE,
        submission_id="rating-1",
        origin=pb.ORIGIN_EXPERT,
        provenance=pb.Provenance(producer=RATER),
        feedback=pb.Feedback(
            kind=pb.FEEDBACK_KIND_RATING,
            judged=[pb.Judged(item_id="item-1", score=4)],
            rater=RATER,
            rater_type=pb.RATER_TYPE_HUMAN,
            scale_min=1,
            scale_max=5,
            rationale="It was measured so.",
        ),
    )


def asked(service: RunningService, *arguments: str) -> Ran:
    return epistream(*arguments, "-n", NAMESPACE, "-a", service.address)


def test_explain_tells_the_rules_that_were_asked_and_which_decided(service: RunningService) -> None:
    people = asked(service, "explain", "made-1", "-p", MODEL)
    (told,) = asked(service, "explain", "made-1", "-p", MODEL, "--json").messages(knowledge.Explanation)

    assert (people.code, people.err) == (0, "")
    assert "HELD (NO_GENERATOR)" in people.out
    assert [(rule.name, rule.fired) for rule in told.rules] == [("generator", True)]
    assert told.policy_version == 1
    assert [" ".join(line.split()).split(" │ ")[3:5] for line in people.out.splitlines()[2:]] == [
        ["generator", "decides"]
    ]
    admitted = asked(service, "explain", "s-3", "-p", "tests", "--json")
    [of_admitted] = admitted.messages(knowledge.Explanation)
    assert {rule.name: rule.fired for rule in of_admitted.rules}["generator"] is False
    unknown = asked(service, "explain", "nothing", "-p", MODEL)
    assert unknown.code == 1
    assert "nothing" in unknown.err


def test_feedback_tells_what_raters_said(service: RunningService) -> None:
    people = asked(service, "feedback", "item-1")
    (told,) = asked(service, "feedback", "item-1", "--json").messages(knowledge.RecordedFeedback)

    assert people.code == 0
    assert f"{RATER} (HUMAN)" in people.out
    assert "item-1: score 4" in people.out
    assert "It was measured so." in people.out
    assert told.submission.feedback == rating().feedback


def test_another_policy_is_rehearsed_on_a_backup_of_a_running_service(service: RunningService, tmp_path: Path) -> None:
    file, folder = tmp_path / "backup", str(tmp_path / "restored")
    assert epistream("backup", "--output", str(file), "-a", service.address).code == 0
    assert epistream_process("restore", str(file), "--folder", folder).code == 0

    rehearse = ("rehearse", folder, "-n", NAMESPACE, "--json")
    same = json.loads(epistream_process(*rehearse).out)
    other = json.loads(epistream_process(*rehearse, "--set", "require_generator=false").out)

    assert (same["decisions"], same["differences"]) == (4, [])
    (difference,) = other["differences"]
    assert (difference["producer"], difference["submission_id"]) == (MODEL, "made-1")
    assert difference["before"] == {"outcome": "HELD", "reason": "NO_GENERATOR"}
    assert difference["after"]["reason"] != "NO_GENERATOR"
