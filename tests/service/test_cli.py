"""The command line against the real service: what a command prints, and what its exit code says.

`explain`, `feedback` and `rehearse` are in test_cli_decisions.py.
"""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from epistream.clients.kafka_producer import KafkaProducer, Position
from epistream.indexer.encoder import PACKAGED_MODEL
from epistream.services.kafka.topics import ensure_topics
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import namespace_service_pb2 as ns
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.errors import Unavailable
from epistream.wire.topics import EXPERT
from tests.support.cli import COMMAND, Ran, clean_environment, epistream, epistream_process
from tests.support.histories import random_history, state_after
from tests.support.kafka import Kafka
from tests.support.scripted_server import Script, ScriptedServer
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

pytestmark = pytest.mark.slow

LOADED_SECONDS = "200"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("cli") / "data", encoder=PACKAGED_MODEL) as service:
        assert epistream("namespaces", "create", "warm", "-a", service.address).code == 0
        loaded = epistream("search", "anything", "-n", "warm", "-a", service.address, "--timeout", LOADED_SECONDS)
        assert loaded.code == 0, loaded.err
        yield service


class Namespace:
    """A namespace of its own for each test, and the command line pointed at it by the environment."""

    def __init__(self, service: RunningService) -> None:
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.environment = {"EPISTREAM_ADDRESS": service.address, "EPISTREAM_NAMESPACE": self.name}
        assert self("namespaces", "create", self.name).code == 0

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran:
        return epistream(*arguments, stdin=stdin, **self.environment)

    def say(self, text: str, item_id: str, origin: str = "expert") -> pb.Receipt:
        done = self("submit", text, "-o", origin, "-p", f"the-{origin}", "--id", item_id, "--json")
        (receipt,) = done.messages(pb.Receipt)
        return receipt


@pytest.fixture
def there(service: RunningService) -> Namespace:
    return Namespace(service)


def lines(*objects: dict[str, object] | str) -> bytes:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in objects).encode()


def test_a_statement_is_submitted_then_got_found_and_listed(there: Namespace) -> None:
    done = there("submit", "The limit is 5 mg.", "--origin", "expert", "--producer", "me", "--id", "limit", "--json")
    (receipt,) = done.messages(pb.Receipt)
    assert (done.code, receipt.outcome, receipt.item_id, receipt.revision) == (0, pb.OUTCOME_ADMITTED, "limit", 1)
    (got,) = there("get", "limit", "--json").messages(knowledge.GetResponse)
    assert got.change.knowledge.content == "The limit is 5 mg."
    assert got.change.knowledge.provenance.producer == "me"
    (hit,) = there("search", "What is the limit?", "--json").messages(knowledge.Hit)
    assert hit.change == got.change
    assert 0 < hit.similarity < 1
    assert there("history", "limit", "--json").messages(pb.Change) == [got.change]
    (entry,) = there("diff", "0", "--json").messages(knowledge.DiffEntry)
    assert entry.after == got.change
    assert not entry.HasField("before")


def test_people_get_tables_and_panels(there: Namespace) -> None:
    receipt = there("submit", "The limit is [5] mg.", "-o", "expert", "-p", "me", "--id", "limit")
    assert receipt.out == "ADMITTED (NEW); limit version 1, revision 1\n"
    assert "The limit is [5] mg." in there("get", "limit").out
    assert "limit version 1, as of revision 1" in there("get", "limit").out
    assert "The limit is [5] mg." in there("search", "limit").out
    assert "me (EXPERT)" in there("history", "limit").out
    assert "(not there)" in there("diff", "0").out
    assert there.name in there("namespaces", "list").out


def test_embeddings_are_sent_on_request(there: Namespace) -> None:
    there.say("The limit is 5 mg.", "limit")
    (got,) = there("get", "limit", "--embedding", "--json").messages(knowledge.GetResponse)
    (hit,) = there("search", "limit", "--embeddings", "--json").messages(knowledge.Hit)
    assert len(got.change.embedding) == len(hit.change.embedding) == 4 * 384


def test_the_past_is_asked_about_by_revision_and_by_time(there: Namespace) -> None:
    there.say("The limit is 5 mg.", "limit")
    first = datetime.now(UTC)
    there.say("The limit is 6 mg.", "limit")

    def content(*options: str) -> str:
        (got,) = there("get", "limit", "--json", *options).messages(knowledge.GetResponse)
        return got.change.knowledge.content

    assert content() == "The limit is 6 mg."
    assert content("--as-of", "1") == content("--as-of", first.isoformat()) == "The limit is 5 mg."
    (hit,) = there("search", "limit", "--as-of", "1", "--json").messages(knowledge.Hit)
    assert hit.change.version == 1
    (entry,) = there("diff", "1", "2", "--json").messages(knowledge.DiffEntry)
    assert (entry.before.version, entry.after.version) == (1, 2)
    assert there("diff", "1", "1", "--json").out == ""
    assert [change.version for change in there("history", "limit", "--json").messages(pb.Change)] == [1, 2]
    assert there("get", "limit", "--as-of", "99").code == 1
    assert there("get", "limit", "--as-of", (first - timedelta(days=1)).isoformat()).code == 1
    assert there("get", "limit", "--as-of", "yesterday").code == 2
    assert there("get", "limit", "--as-of", "2026-01-31T12:00:00").code == 2, "a time without a zone says nothing"


def test_a_statement_says_from_when_on_it_holds(there: Namespace, tmp_path: Path) -> None:
    def say(text: str, valid_from: str) -> Ran:
        return there("submit", text, "-o", "expert", "-p", "me", "--id", "limit", "--valid-from", valid_from)

    assert say("The limit is 5 mg.", "2023-01-01").code == 0
    late = say("The limit is 4 mg.", "2021-01-01T01:00:00+01:00")
    assert late.out.startswith("REVISED (LATE); limit version 2, revision 2")
    assert "The limit is 5 mg." in there("get", "limit").out
    shown = there("get", "limit", "--valid-at", "2022-06-30").out
    assert "The limit is 4 mg." in shown
    assert "valid from  2021-01-01 00:00:00Z" in shown
    assert "LATE" in there("watch", "--after", "1", "--count", "1").out
    assert say("The limit is 6 mg.", "2024-01-01T12:00:00").code == 2, "a time without a zone says nothing"
    file = tmp_path / "facts.jsonl"
    file.write_text('{"itemId": "limit", "content": "The limit is 3 mg.", "validFrom": "2020-01-01T00:00:00Z"}')
    assert there("submit", str(file), "--valid-from", "2020-01-01", "-o", "expert", "-p", "me").code == 2
    assert there("submit", str(file), "-o", "expert", "-p", "me").code == 0
    assert "The limit is 3 mg." in there("get", "limit", "--valid-at", "2020-06-30").out


def test_filters_narrow_a_search(there: Namespace) -> None:
    there.say("The limit is 5 mg.", "limit")
    there("submit", "Cats sleep a lot.", "-o", "crawled", "-p", "web", "--id", "cats", "--attribute", "kind=animal")

    def found(*options: str) -> list[str]:
        hits = there("search", "limit", "--json", *options).messages(knowledge.Hit)
        return [hit.change.item_id for hit in hits]

    assert found() == ["limit", "cats"]
    assert found("--limit", "1") == ["limit"]
    assert found("--origin", "crawled", "--origin", "synthetic") == ["cats"]
    assert found("--producer", "the-expert") == ["limit"]
    assert found("--attribute", "kind=animal") == ["cats"]
    assert found("--modality", "code") == []
    assert there("search", "limit", "--attribute", "kind").code == 2


def test_a_file_is_submitted_line_by_line_and_wrong_lines_stop_nothing(there: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_bytes(
        lines(
            {"content": "Aspirin was first made in 1897.", "item_id": "aspirin"},
            "",
            "this is no JSON",
            {"content": "Cats sleep a lot.", "provenance": {"producer": "the-web"}, "origin": "ORIGIN_CRAWLED"},
            {"content": "x", "nonsense": 1},
            {"content": ""},
        )
        + b'{"content": "\xff"}\n'
    )
    done = there("submit", str(file), "-o", "expert", "-p", "me", "--attribute", "from=file", "--json")
    receipts = done.messages(pb.Receipt)
    assert [receipt.outcome for receipt in receipts] == [1, 1, pb.OUTCOME_REFUSED]
    assert [receipt.producer for receipt in receipts] == ["me", "the-web", "me"]
    told = [line.split(":")[0] for line in done.err.splitlines()]
    assert sorted(told) == ["line 3", "line 5", "line 6", "line 7"]
    assert "content" in done.err
    assert done.code == 2
    (got,) = there("get", "aspirin", "--json").messages(knowledge.GetResponse)
    assert dict(got.change.knowledge.attributes) == {"from": "file"}
    text = there("submit", str(file), "-o", "expert", "-p", "me", "--attribute", "from=file")
    assert "line 1: ADMITTED (NEW); aspirin version 1, revision 1; decided earlier" in text.out
    assert "3 submitted: 2 admitted, 1 refused" in text.err


def test_a_line_whose_numbers_no_message_can_say_is_wrong_and_the_others_go_on(there: Namespace) -> None:
    given = lines(
        '{"content": "x", "details": {"a": NaN}}',
        '{"content": "x", "details": {"a": 1e999}}',
        f'{{"content": "x", "details": {{"a": {10**400}}}}}',
        {"content": "Cats sleep a lot."},
    )
    done = there("submit", "-", "-o", "expert", "-p", "me", "--json", stdin=given)
    assert (done.code, len(done.messages(pb.Receipt))) == (2, 1)
    told = done.err.splitlines()
    assert [line.split(":")[1] for line in told] == 3 * [" not a submission"]


def test_what_some_editors_put_before_the_first_line_is_no_part_of_it(there: Namespace) -> None:
    given = b"\xef\xbb\xbf" + lines({"content": "Cats sleep a lot."}, {"content": "One is odd."})
    done = there("submit", "-", "-o", "expert", "-p", "me", "--json", stdin=given)
    assert (done.code, len(done.messages(pb.Receipt))) == (0, 2), done.err
    assert there("submit", "-", "-o", "expert", "-p", "me", stdin=b"\xef\xbb\xbf").code == 0


def test_with_fail_fast_the_first_wrong_line_ends_it(there: Namespace) -> None:
    given = lines({"content": "One is odd."}, "no JSON", {"content": "Cats sleep a lot."})
    done = there("submit", "-", "-o", "expert", "-p", "me", "--fail-fast", "--json", stdin=given)
    assert (done.code, len(done.messages(pb.Receipt))) == (2, 1)
    assert done.err.startswith("line 2: not JSON")
    refused = lines({"content": ""}, {"content": "Cats sleep a lot."})
    done = there("submit", "-", "-o", "expert", "-p", "me", "--fail-fast", "--json", stdin=refused)
    assert (done.code, len(done.messages(pb.Receipt))) == (1, 1)


def test_a_line_without_an_id_is_the_same_submission_each_time_it_is_sent(there: Namespace) -> None:
    snake = lines({"item_id": "cats", "content": "Cats sleep a lot.", "provenance": {"source": "s"}})
    camel = lines({"provenance": {"source": "s"}, "content": "Cats sleep a lot.", "itemId": "cats"})
    (first,) = there("submit", "-", "-o", "expert", "-p", "me", "--json", stdin=snake).messages(pb.Receipt)
    (again,) = there("submit", "-", "-o", "expert", "-p", "me", "--json", stdin=camel).messages(pb.Receipt)
    assert len(first.submission_id) == 64
    assert again.submission_id == first.submission_id
    assert (first.earlier, again.earlier) == (False, True)
    (other,) = there("submit", "-", "-o", "crawled", "-p", "me", "--json", stdin=camel).messages(pb.Receipt)
    assert other.submission_id != first.submission_id, "what the options add is part of it"


def test_the_exit_code_says_what_happened(there: Namespace) -> None:
    statement = ("submit", "The limit for adults is 5 mg.", "-p", "me")
    assert there(*statement, "-o", "expert", "--id", "limit").code == 0
    assert there("submit", "The limit for adults is 6 mg.", "-p", "you", "-o", "synthetic", "--id", "limit").code == 4
    assert there(*statement).code == 1, "refused: there is no origin"
    assert (
        there(
            "submit", "The limit is 7 mg.", "-o", "expert", "-p", "me", "--id", "limit", "--expected-version", "9"
        ).code
        == 1
    )
    assert there("submit", "no-such-file.jsonl", "-o", "expert", "-p", "me").code == 2
    assert there("submit", "statement", "--text", "-o", "expert", "-p", "me").code == 0
    assert there("submit", "-", "--id", "x", stdin=b"{}").code == 2
    assert there("submit", "-", stdin=b"").code == 0
    assert there("get", "nothing").code == 1
    assert there("get", "limit", "-n", "no-such-namespace").code == 1
    assert there("search").code == 2
    assert there("nonsense").code == 2


def test_an_item_is_retracted_and_gone(there: Namespace) -> None:
    there.say("The limit is 5 mg.", "limit")
    held = there("retract", "limit", "-o", "synthetic", "-p", "writer", "--json")
    assert (held.code, held.messages(pb.Receipt)[0].reason) == (4, pb.REASON_LOWER_AUTHORITY)
    retract = ("retract", "limit", "-o", "expert", "-p", "me", "--submission-id", "r1", "--json")
    done = there(*retract)
    assert (done.code, done.messages(pb.Receipt)[0].reason) == (0, pb.REASON_RETRACTION)
    assert there(*retract).messages(pb.Receipt)[0].earlier
    assert there("get", "limit").code == 1
    assert there("search", "limit", "--json").out == ""
    assert there("retract", "nothing", "-o", "expert", "-p", "me").code == 1


def test_namespaces_are_made_shown_and_changed(there: Namespace) -> None:
    name = f"{there.name}-own"
    created = there(
        "namespaces", "create", name, "--encoder", "none", "--dimension", "3", "--threshold", "0.9", "--json"
    )
    (made,) = created.messages(ns.Namespace)
    assert (made.name, made.encoder.model, made.encoder.dimension) == (name, "none", 3)
    assert made.policy.near_duplicate_threshold == 0.9
    assert there("namespaces", "create", name, "--dimension", "4", "--encoder", "none").code == 1
    (changed,) = there(
        "namespaces", "policy", name, "--threshold", "0.8", "--no-own-vectors", "--retained", "7", "--json"
    ).messages(ns.Namespace)
    assert (changed.policy.near_duplicate_threshold, changed.policy.retained_revisions) == (0.8, 7)
    assert not changed.policy.accept_producer_embeddings
    assert there("namespaces", "get", name, "--json").messages(ns.Namespace) == [changed]
    assert {one.name for one in there("namespaces", "list", "--json").messages(ns.Namespace)} >= {
        name,
        there.name,
        "warm",
    }
    assert there("namespaces", "get", "nowhere").code == 1
    assert there("namespaces", "policy", name).code == 2
    (watched,) = there(
        "namespaces", "policy", name, "--set", "on_collapse=COLLAPSE_ACTION_HOLD", "--set", "watch_every=64", "--json"
    ).messages(ns.Namespace)
    assert (watched.policy.on_collapse, watched.policy.watch_every) == (ns.COLLAPSE_ACTION_HOLD, 64)
    assert watched.policy.near_duplicate_threshold == 0.8
    policies = there("namespaces", "policies", name, "--json").messages(ns.PolicyVersion)
    assert [(one.version, one.policy) for one in policies] == [
        (3, watched.policy),
        (2, changed.policy),
        (1, made.policy),
    ]
    assert re.search(r"3 .* watch_every .* 125 .* 64", there("namespaces", "policies", name).out)
    for told in (
        there("namespaces", "get", name).out,
        there("namespaces", "policy", name, "--set", "watch_every=65").out,
    ):
        assert "COLLAPSE_ACTION_HOLD" in told
    for wrong in ("watch_every", "watch_every=often", "on_collapse=NOTHING", "no_field=1"):
        assert there("namespaces", "policy", name, "--set", wrong).code == 2
    assert there("namespaces", "policy", name, "--set", "watch_every=1").code == 1
    assert there("alarms").code == 0


def test_a_lines_own_vector_is_taken(there: Namespace) -> None:
    name = f"{there.name}-vectors"
    there("namespaces", "create", name, "--encoder", "none", "--dimension", "2")
    given = lines({"content": "East.", "item_id": "east", "embedding": {"values": [1, 0]}})
    assert there("submit", "-", "-n", name, "-o", "expert", "-p", "me", stdin=given).code == 0


def test_a_watch_begins_and_ends_where_it_is_told_and_acknowledges(there: Namespace) -> None:
    for number in (1, 2, 3):
        there.say(f"The limit is {number} mg.", "limit" if number < 3 else "other")
    resumed = there("watch", "--after", "0", "--until-revision", "2", "--consumer", "me", "--json").messages(pb.Change)
    assert [(change.revision, change.version) for change in resumed] == [(1, 1), (2, 2)]
    snapshot = there("watch", "--snapshot", "--count", "2", "--json").messages(pb.Change)
    assert [(change.revision, change.item_id) for change in snapshot] == [(2, "limit"), (3, "other")]
    shown = there("watch", "--after", "2", "--count", "1")
    assert "other version 1" in shown.out
    assert "head at revision 3" in shown.err
    first = there("watch", "--after", "0", "--count", "1", "--consumer", "you", "--json").messages(pb.Change)
    assert first == resumed[:1]
    consumers = there("consumers", "--json").messages(sync.ConsumerStatus)
    applied = {consumer.consumer: consumer.applied_revision for consumer in consumers}
    printed = {"me": 2, "you": 1, "epistream-watch": 3}
    assert applied.keys() == printed.keys()
    # No more than that. The last may be lost: it is on its way when the stream is left.
    assert all(revision <= printed[consumer] for consumer, revision in applied.items())
    assert "epistream-watch" in there("consumers").out
    assert there("watch", "--after", "99").code == 1
    assert there("watch", "--after", "1", "--snapshot").code == 2


def test_a_watch_shows_what_is_committed_meanwhile_until_ctrl_c(there: Namespace) -> None:
    command = [*COMMAND, "watch", "--origin", "expert", "--json"]
    watch = subprocess.Popen(
        command, env=clean_environment(there.environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:

        def connected() -> bool:
            assert watch.poll() is None
            return any(one.connected for one in there("consumers", "--json").messages(sync.ConsumerStatus))

        wait_until(connected, "the watch")
        there.say("Cats sleep a lot.", "cats", "crawled")
        there.say("The limit is 5 mg.", "limit")
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["item_id"] == "limit"
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=30)
    finally:
        watch.kill()
        watch.wait()
    assert (watch.returncode, out, err) == (0, b"", b"")


async def test_a_snapshot_that_breaks_off_is_printed_once() -> None:
    history = random_history(60, seed=6)
    async with ScriptedServer(history) as server:
        server.scripts.append(Script(break_after=4))
        command = [*COMMAND, "watch", "-n", "tests", "-a", server.address, "--snapshot", "--json"]
        command += ["--until-revision", "60"]
        watch = await asyncio.create_subprocess_exec(*command, env=clean_environment({}), stdout=subprocess.PIPE)
        out, _ = await watch.communicate()
    assert (watch.returncode, len(server.streams)) == (0, 2)
    printed = Ran(0, out.decode(), "").messages(pb.Change)
    assert [change.revision for change in printed] == sorted(c.revision for c in state_after(history, 60).values())


def test_ctrl_c_ends_what_waits_for_input(there: Namespace) -> None:
    command = [*COMMAND, "submit", "-", "-o", "expert", "-p", "me", "--json"]
    environment = clean_environment(there.environment)
    submit = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert submit.stdin is not None
    assert submit.stdout is not None
    try:
        submit.stdin.write(lines({"content": "Cats sleep a lot."}))
        submit.stdin.flush()
        assert json.loads(submit.stdout.readline())["outcome"] == "OUTCOME_ADMITTED", (
            "at once, not at the end of the input"
        )
        submit.send_signal(signal.SIGINT)
        assert submit.wait(30) == 130
    finally:
        submit.kill()
        submit.wait()
        submit.stdin.close()
        submit.stdout.close()


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "A statement.", "-o", "expert", "-p", "me"),
        ("retract", "x", "-o", "expert", "-p", "me"),
        ("get", "x"),
        ("search", "x"),
        ("history", "x"),
        ("diff", "1"),
        ("watch",),
        ("consumers",),
        ("alarms",),
        ("explain", "x", "-p", "me"),
        ("feedback", "x"),
        ("signals",),
        ("review", "list"),
        ("namespaces", "list"),
        ("produce", "-", "-k", "127.0.0.1:1"),
    ],
    ids=lambda command: command[0],
)
def test_where_nothing_listens_the_exit_code_is_3_and_the_message_says_what_to_do(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {"EPISTREAM_ADDRESS": f"127.0.0.1:{port}", "EPISTREAM_NAMESPACE": "any"}
    done = epistream(*command, stdin=b"", **environment)
    assert done.code == 3
    assert "can be reached at 127.0.0.1" in done.err
    assert "Start" in done.err
    assert epistream("get", "x", "-n", "any", "-a", "not an address").code == 2


def test_knowledge_is_produced_to_kafka(kafka: Kafka, tmp_path: Path) -> None:
    ensure_topics(kafka.bootstrap)
    file = tmp_path / "facts.jsonl"
    file.write_bytes(
        lines({"content": "Cats sleep a lot.", "item_id": uuid.uuid4().hex}, "no JSON", {"content": "x", "origin": 77})
    )
    options = ("-k", kafka.bootstrap, "-n", "any", "-o", "expert", "-p", "me")
    done = epistream("produce", str(file), *options, "--json")
    assert done.code == 2
    assert sorted(line[:6] for line in done.err.splitlines()) == ["Kafka ", "line 2", "line 3"]
    (where,) = map(json.loads, done.out.splitlines())
    assert where["topic"] == EXPERT
    (record,) = [r for r in kafka.read(EXPERT) if (r.partition, r.offset) == (where["partition"], where["offset"])]
    sent = pb.Submission.FromString(record.value or b"")
    assert (sent.content, sent.submission_id, sent.namespace) == ("Cats sleep a lot.", where["submission_id"], "any")
    topic = kafka.new_topic()
    given = lines({"content": "Cats sleep a lot."})
    done = epistream("produce", "-", *options, "--topic", topic, "--cloud-events", stdin=given)
    assert (done.code, done.out) == (0, "")
    (record,) = kafka.read(topic)
    assert "ce_id" in dict(record.headers)
    assert epistream("produce", "nowhere.jsonl", *options).code == 2
    done = epistream("produce", "-", *options, "--topic", "bad topic", stdin=given)
    assert (done.code, done.err.startswith("line 1: topic: ")) == (2, True), done.err


def test_what_kafka_has_is_told_also_where_a_later_line_cannot_be_sent(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topics(kafka.bootstrap)
    send = KafkaProducer.send

    def failing(self: KafkaProducer, submission: pb.Submission, *, topic: str | None = None) -> "Future[Position]":
        if submission.item_id == "last":
            raise Unavailable("There was no room.")
        return send(self, submission, topic=topic)

    monkeypatch.setattr(KafkaProducer, "send", failing)
    given = lines({"content": "Cats sleep a lot.", "item_id": "first"}, {"content": "x", "item_id": "last"})
    options = ("-k", kafka.bootstrap, "-n", "any", "-o", "expert", "-p", "me")
    done = epistream("produce", "-", *options, "--json", stdin=given)
    assert (done.code, "There was no room." in done.err) == (3, True)
    (where,) = map(json.loads, done.out.splitlines())
    assert where["topic"] == EXPERT


def test_commands_of_the_service_are_passed_on_whole(tmp_path: Path) -> None:
    assert "--metrics-address" in epistream_process("up", "--help").out
    assert "default: 9092" in epistream_process("kafka", "up", "--help").out  # where the documents look for it
    missing = epistream_process("fsck", "--folder", str(tmp_path))
    assert missing.code == 2
    assert "no store" in missing.err
    with running_service(tmp_path / "data"):
        pass
    assert epistream_process("fsck", "--folder", str(tmp_path / "data")).code == 0


def run_without(package: str, *arguments: str) -> Ran:
    """The command line where a package is not installed."""
    program = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['epistream', *{arguments!r}]; "
        "from epistream.clients.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_missing_packages_are_named_in_one_line() -> None:
    for package, arguments, extra in (
        ("typer", ("--help",), "epistream[cli]"),
        ("rich", ("--help",), "epistream[cli]"),
        ("apsw", ("fsck",), "epistream[server]"),
    ):
        done = run_without(package, *arguments)
        assert done.code != 0
        assert extra in done.err
        assert len(done.err.splitlines()) == 1, done.err


def test_nothing_of_the_service_and_nothing_heavy_is_imported(there: Namespace) -> None:
    program = (
        "import sys, atexit\n"
        "from epistream.clients.cli.main import main\n"
        "heavy = {'torch', 'faiss', 'apsw', 'sentence_transformers', 'epistream.indexer', 'epistream.services'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules))))\n"
        "main()\n"
    )
    for arguments in (["--help"], ["search", "limit", "--json"], ["namespaces", "list", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=clean_environment(there.environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]"
