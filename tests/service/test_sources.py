"""R32 end to end: each of the 31 works, imported from its published format into a real service, with a record that is
malformed before one that is not.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from epistream.clients import SyncKnowledgeClient
from epistream.clients.sources import judgements
from epistream.clients.sources.examples import EXAMPLES
from epistream.clients.sources.importing import Prepared, prepared
from epistream.clients.sources.mapping import load
from epistream.clients.sources.submissions import submissions
from epistream.clients.sources.table import BY_NAME
from epistream.indexer import deadletters
from epistream.indexer.deadletters import DeadLetter
from epistream.indexer.encoder import PACKAGED_MODEL
from epistream.indexer.store import read_only
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.topics import dead_letter_topic
from tests.support.cli import Ran, epistream
from tests.support.intake import topic_with_dead_letters
from tests.support.kafka import Kafka
from tests.support.samples import DATA, needs_samples, rows
from tests.support.service import RunningService, running_service
from tests.support.source_mappings import ANSWERED
from tests.support.source_records import ADDED_BY_HAND, job_of, malformed, said, written_as
from tests.support.source_samples import SAMPLES
from tests.support.source_shapes import shape
from tests.support.sources import PUBLISHED, csv_table, json_array, json_lines, json_object
from tests.support.sources_reference import examples
from tests.support.waits import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def topic(kafka: Kafka) -> str:
    """The one that the service reads."""
    return topic_with_dead_letters(kafka)


@pytest.fixture(scope="module")
def service(kafka: Kafka, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    data, settings = tmp_path_factory.mktemp("sources") / "data", {"kafka-topics": topic, "kafka-group": topic}
    with running_service(data, settings, encoder=PACKAGED_MODEL, kafka=kafka.bootstrap) as service:
        yield service


@dataclass(frozen=True, slots=True)
class Imported:
    """A work's file with a malformed record, its file with a valid one, and a namespace of their own for them."""

    work: str
    folder: Path
    namespace: str
    service: RunningService

    def run(self, *options: str, **environment: str) -> Ran:
        added = [f"--set={name}={value}" for name, value in ADDED_BY_HAND.get(self.work, {}).items()]
        words = ["import", self.work, str(self.folder), "--timeout", "200", *added, *options]
        return self._epistream(*words, **environment)

    def records(self) -> list[Prepared]:
        """What is sent."""
        return list(prepared(job_of(self.work, self.folder, self.namespace)))

    def counts(self) -> tuple[int, int]:
        """The namespace's items and its newest revision."""
        found = self._epistream("namespaces", "get", self.namespace, "--json").messages(ns.Namespace)[0]
        return found.item_count, found.head_revision

    def letters(self) -> list[DeadLetter]:
        with read_only(self.service.folder) as catalog:
            found = deadletters.read(catalog.connection, 0, 10_000)
        return [letter for letter in found if letter.receipt.namespace == self.namespace]

    def create(self) -> None:
        assert self._epistream("namespaces", "create", self.namespace).code == 0

    def _epistream(self, *arguments: str, **environment: str) -> Ran:
        where = {"EPISTREAM_ADDRESS": self.service.address, "EPISTREAM_NAMESPACE": self.namespace, **environment}
        return epistream(*arguments, stdin=b"", **where)


@pytest.fixture(params=list(BY_NAME))
def imported(request: pytest.FixtureRequest, service: RunningService, tmp_path: Path) -> Imported:
    work, folder = request.param, tmp_path / "published"
    folder.mkdir()
    wrong, _ = malformed(work)
    file, _ = PUBLISHED[work]
    written_as(f"0-{file}", work, wrong, folder)
    written_as(f"1-{file}", work, EXAMPLES[work], folder)
    made = Imported(work, folder, f"{work}-{uuid.uuid4().hex[:12]}", service)
    made.create()
    return made


def knowledge_of(submission: pb.Submission) -> pb.Knowledge:
    """What an item says after a submission."""
    kept = pb.Knowledge(
        origin=submission.origin,
        modality=submission.modality,
        content=submission.content,
        attributes=submission.attributes,
        provenance=submission.provenance,
        submission_id=submission.submission_id,
        prompt=submission.prompt,
        further_media=submission.further_media,
    )
    for name in ("media", "tests", "details"):
        if submission.HasField(name):
            getattr(kept, name).CopyFrom(getattr(submission, name))
    return kept


def test_a_work_is_imported_whole_and_what_is_malformed_is_kept_with_its_reason(imported: Imported) -> None:
    _, reason = malformed(imported.work)
    done = imported.run()
    assert done.code == 2, "one record is unreadable"
    assert f"{imported.work}: 2 records, 1 of them unreadable; 2 so far" in done.out, done.err
    assert reason in done.err

    wrong, right = imported.records()
    (letter,) = imported.letters()
    assert letter.receipt.reason == pb.REASON_MALFORMED
    assert reason in letter.receipt.violations[0].description
    kept = pb.Submission.FromString(letter.record.value or b"")
    assert kept.unreadable.record == wrong.submissions[0].unreadable.record != b""

    items = [one for one in right.submissions if not one.HasField("feedback")]
    judged = [one for one in right.submissions if one.HasField("feedback")]
    with SyncKnowledgeClient(imported.service.address) as client:
        for one in items:
            assert client.get(imported.namespace, one.item_id).change.knowledge == knowledge_of(one)
        for one in judged:
            for item in one.feedback.judged:
                found = client.list_feedback(imported.namespace, item.item_id)
                assert one in [each.submission for each in found]
    assert imported.counts() == (len(items), len(items)), "each is an item of its own"

    assert "0 records" in imported.run().out, "it goes on at the end"
    again = imported.run("--again")
    assert again.code == 2
    assert imported.counts() == (len(items), len(items))
    with SyncKnowledgeClient(imported.service.address) as client:
        found = client.list_feedback(imported.namespace, items[0].item_id)
        assert len(found) == sum(
            any(item.item_id == items[0].item_id for item in one.feedback.judged) for one in judged
        )


OF_EACH_FORMAT = [
    "c4",
    "imagereward",
    "kinetics-400",
    "laion-5b",
    "common-crawl",
    "mobile-aloha",
    "rt-1",
    "codecontests",
    "apps",
]
"""Works that publish JSON Lines, JSON, CSV, Parquet, WET, HDF5, RLDS, TFRecord of protobuf, and folders."""


@pytest.mark.parametrize("work", OF_EACH_FORMAT)
def test_the_bar_ends_at_100_percent_and_not_before(work: str, service: RunningService, tmp_path: Path) -> None:
    """As on a terminal, which FORCE_COLOR stands for."""
    for number in range(2):
        written_as(f"{number}-{PUBLISHED[work][0]}", work, EXAMPLES[work], tmp_path)
    imported = Imported(work, tmp_path, f"{work}-{uuid.uuid4().hex[:12]}", service)
    imported.create()
    half = imported.run("--limit", "1", FORCE_COLOR="1")
    assert "50%" in half.err
    assert "100%" not in half.err
    assert "100%" in imported.run(FORCE_COLOR="1").err


def test_what_a_model_made_of_seed_tasks_is_taken_with_them_and_held_without(
    service: RunningService, tmp_path: Path
) -> None:
    """R24: of a folder the seed tasks are read first, though their file comes later by its name."""
    made, seeds = tmp_path / "all_instances_82K.jsonl", tmp_path / "seed_tasks.jsonl"
    json_lines(made, [shape("self-instruct", "seed_ids")])
    json_lines(seeds, [shape("self-instruct", "instances")])
    alone, whole = (
        Imported("self-instruct", path, f"seeds-{uuid.uuid4().hex[:12]}", service) for path in (made, tmp_path)
    )
    for imported in (alone, whole):
        imported.create()
    assert "UNKNOWN_PARENT" in alone.run().out
    assert alone.counts() == (0, 0)
    assert whole.run().code == 0
    assert whole.counts() == (2, 2)


LARGE = ("self-instruct", "imagereward")
OF_SAMPLES = [pytest.param(name, 4 if name in LARGE else 1, id=name) for name in SAMPLES]
OF_SAMPLES += [pytest.param(name, 1, id=f"{name}-whole", marks=pytest.mark.robustness) for name in LARGE]
"""Every fourth record of what is large, and by `make robustness` all of them."""


@needs_samples
@pytest.mark.parametrize(("name", "every"), OF_SAMPLES)
def test_real_records_are_imported_whole(name: str, every: int, service: RunningService, tmp_path: Path) -> None:
    work, file, records = SAMPLES[name]
    writers = {".gz": json_lines, ".jsonl": json_lines, ".csv": csv_table}
    found = list(records())[::every]
    write = writers.get(Path(file).suffix) or (json_object if "key" in found[0] else json_array)
    write(tmp_path / file, found)
    imported = Imported(work, tmp_path / file, f"{name}-{uuid.uuid4().hex[:12]}", service)
    imported.create()

    done = imported.run()
    assert f"{work}: {len(found)} records, 0 of them unreadable" in done.out, done.err
    reasons = {row[1] for row in (line.replace("│", " ").split() for line in done.out.splitlines()) if len(row) == 3}
    assert not reasons & {"INVALID", "MALFORMED", "UNKNOWN_PARENT", "NO_GENERATOR", "CYCLE"}, done.out
    with SyncKnowledgeClient(service.address) as client:
        for record in imported.records():
            for one in record.submissions:
                for item in one.feedback.judged:
                    kept = client.list_feedback(imported.namespace, item.item_id)
                    assert one in [each.submission for each in kept]


@needs_samples
def test_records_of_no_work_are_imported_by_a_mapping(service: RunningService, tmp_path: Path) -> None:
    mapping = tmp_path / "dune.yaml"
    mapping.write_text(
        'work: dune\norigin: EXPERT\nmodality: TEXT\ncontent: "{statement}"\nid: "{id}"\nlicence: "{license}"\n'
        'attributes:\n  date: "{date_text}"\n'
    )
    namespace = f"dune-{uuid.uuid4().hex[:12]}"
    where = {"EPISTREAM_ADDRESS": service.address, "EPISTREAM_NAMESPACE": namespace}
    assert epistream("namespaces", "create", namespace, stdin=b"", **where).code == 0
    path = DATA / "updates_dune_sample.jsonl"
    done = epistream(
        "import", "--mapping", str(mapping), str(path), "--state", str(tmp_path / "state"), stdin=b"", **where
    )
    assert done.code == 0, done.err
    assert f"dune: {len(rows(path))} records, 0 of them unreadable" in done.out
    with SyncKnowledgeClient(service.address) as client:
        for row in rows(path):
            knowledge = client.get(namespace, f"dune:{row['id']}").change.knowledge
            assert (knowledge.content, knowledge.provenance.licence) == (row["statement"], row["license"])
            assert said(knowledge.details)["queries"] == row["queries"]


def test_the_feedback_of_a_mapping_is_kept_for_each_rater(service: RunningService, tmp_path: Path) -> None:
    mapping = tmp_path / "answers.yaml"
    mapping.write_text(f"work: answers\norigin: EXPERT\nmodality: TEXT\n{examples(judgements)[0]}")
    json_lines(tmp_path / "answers.jsonl", [ANSWERED])
    namespace = f"answers-{uuid.uuid4().hex[:12]}"
    where = {"EPISTREAM_ADDRESS": service.address, "EPISTREAM_NAMESPACE": namespace}
    assert epistream("namespaces", "create", namespace, stdin=b"", **where).code == 0
    done = epistream("import", "--mapping", str(mapping), str(tmp_path / "answers.jsonl"), stdin=b"", **where)
    assert done.code == 0, done.err
    first = submissions(load(mapping), ANSWERED)[0].item_id
    with SyncKnowledgeClient(service.address) as client:
        kept = [each.submission.feedback for each in client.list_feedback(namespace, first)]
    found = {(pb.FeedbackKind.Name(one.kind).removeprefix("FEEDBACK_KIND_"), one.rater) for one in kept}
    assert found == {("RANKING", "ada"), ("RATING", "u1"), ("RATING", "u2")}
    (ranking,) = (one for one in kept if one.kind == pb.FEEDBACK_KIND_RANKING)
    assert [one.place for one in ranking.judged] == [2, 1, 2]


def test_over_kafka_an_import_has_the_same_effect(
    kafka: Kafka, topic: str, service: RunningService, tmp_path: Path
) -> None:
    """Items, feedback, and what is malformed, which goes to the topic of dead letters."""
    wrong, reason = malformed("rlaif")
    json_lines(tmp_path / "critiques.jsonl", [wrong, EXAMPLES["rlaif"]])
    imported = Imported("rlaif", tmp_path / "critiques.jsonl", "answers", service)
    imported.create()
    dry = imported.run("--dry-run")
    sent = epistream("produce", "-", "-k", kafka.bootstrap, "--topic", topic, stdin=dry.out.encode())
    assert sent.code == 0, sent.err
    wait_until(lambda: imported.counts() == (2, 2), "both items")
    wait_until(lambda: service.metric("epistream_outbox_pending") == 0, "that Kafka is told")
    with SyncKnowledgeClient(service.address) as client:
        initial = imported.records()[1].submissions[0]
        (critique,) = client.list_feedback("answers", initial.item_id)
        assert critique.submission.feedback.rationale == "The answer helps to do harm."
    (letter,) = kafka.read(dead_letter_topic(topic))
    kept = pb.Submission.FromString(letter.value or b"").unreadable
    assert json.loads(kept.record) == wrong
    assert reason in kept.reason
