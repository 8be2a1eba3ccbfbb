"""`epistream import` against the real service: receipts, interruptions, and importing again."""

import gzip
import json
import signal
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.indexer.encoder import PACKAGED_MODEL
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.cli import COMMAND, Ran, clean_environment, epistream
from tests.support.service import RunningService, running_service
from tests.support.sources import json_lines
from tests.support.waits import wait_until

pytestmark = pytest.mark.slow
PAGES = 1_000
"""So many that an import is in the middle of them when its first state is seen."""
TEXT = "In {} the river is {} km long and the bridge is {} m high."


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(tmp_path_factory.mktemp("import") / "data", encoder=PACKAGED_MODEL) as service:
        yield service


class Web:
    """A namespace, and imports of C4 into it."""

    def __init__(self, service: RunningService, folder: Path) -> None:
        self.name = f"web-{uuid.uuid4().hex[:12]}"
        self.environment = {"EPISTREAM_ADDRESS": service.address, "EPISTREAM_NAMESPACE": self.name}
        self.file = folder / "c4.jsonl"
        self.state = folder / "c4.jsonl.c4.import-state"
        assert epistream("namespaces", "create", self.name, stdin=b"", **self.environment).code == 0

    def write(self, count: int) -> None:
        """Pages, each with other numbers."""
        pages = [
            {
                "text": TEXT.format(1000 + i, i + 1, 3 * i + 1),
                "timestamp": "2019-04-25T12:57:54Z",
                "url": f"https://a.example/{i}",
            }
            for i in range(count)
        ]
        json_lines(self.file, pages)

    def run(self, *options: str) -> Ran:
        return epistream("import", "c4", str(self.file), "--timeout", "200", *options, stdin=b"", **self.environment)

    @property
    def items(self) -> int:
        done = epistream("namespaces", "get", self.name, "--json", stdin=b"", **self.environment)
        return done.messages(ns.Namespace)[0].item_count


@pytest.fixture
def web(service: RunningService, tmp_path: Path) -> Web:
    return Web(service, tmp_path)


def outcomes(done: Ran) -> Counter[str]:
    """How many submissions had which outcome, of the rows of the summary. Why is not asked: the pages are alike."""
    words = [line.replace("│", " ").split() for line in done.out.splitlines()]
    counts: Counter[str] = Counter()
    for row in words:
        if len(row) == 3 and row[2].isdecimal():
            counts[row[0]] += int(row[2])
    return counts


def test_an_import_is_admitted_and_told(web: Web) -> None:
    web.write(5)
    done = web.run()
    assert done.code == 0, done.err
    assert outcomes(done) == {"ADMITTED": 5}
    assert "c4: 5 records, 0 of them unreadable; 5 so far" in done.out
    assert web.items == 5


def test_importing_again_begins_where_it_ended_and_changes_nothing_from_the_first(web: Web) -> None:
    web.write(4)
    assert web.run("--limit", "3").code == 0
    assert json.loads(web.state.read_text())["records"] == 3
    assert outcomes(web.run()) == {"ADMITTED": 1}
    assert outcomes(web.run()) == {}
    again = web.run("--again")
    assert outcomes(again) == {"ADMITTED": 4}, "the earlier receipts"
    assert web.items == 4


def test_a_file_that_grows_is_imported_from_where_it_ended(web: Web) -> None:
    web.write(2)
    assert web.run().code == 0
    web.write(5)
    assert outcomes(web.run()) == {"ADMITTED": 3}


def test_a_last_record_without_a_line_end_is_imported_and_begun_with_again(web: Web) -> None:
    web.write(3)
    whole = web.file.read_bytes()
    web.file.write_bytes(whole[:-1])
    for outcome in ({"ADMITTED": 3}, {"ADMITTED": 1}):
        done = web.run()
        assert (done.code, outcomes(done)) == (0, outcome)
        assert "unreadable; 3 so far" in done.out
        assert web.items == 3
    web.write(5)
    whole = web.file.read_bytes()
    web.file.write_bytes(whole[:-10])
    done = web.run()
    assert done.code == 2, "half of the last one can be read by nobody"
    assert web.items == 4
    web.file.write_bytes(whole)
    done = web.run()
    assert (done.code, outcomes(done)) == (0, {"ADMITTED": 1})
    assert "unreadable; 5 so far" in done.out
    assert web.items == 5
    assert outcomes(web.run()) == {}


def test_a_killed_import_goes_on_where_all_before_was_acknowledged(web: Web) -> None:
    web.write(PAGES)
    command = [*COMMAND, "import", "c4", str(web.file), "--timeout", "200"]
    process = subprocess.Popen(command, env=clean_environment(web.environment), stdout=subprocess.DEVNULL)
    try:
        wait_until(web.state.exists, "the first state")
    finally:
        process.kill()
        process.wait()
    kept = json.loads(web.state.read_text())
    assert 0 < kept["records"] < PAGES
    assert kept["records"] <= web.items
    assert web.run().code == 0
    assert json.loads(web.state.read_text())["records"] == PAGES
    assert web.items == PAGES


def test_an_import_that_is_interrupted_says_that_it_can_go_on(web: Web) -> None:
    web.write(30_000)
    command = [*COMMAND, "import", "c4", str(web.file), "--timeout", "200"]
    environment = clean_environment(web.environment)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(web.state.exists, "the first state")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Interrupted. The same command goes on from here." in told
    kept = json.loads(web.state.read_text())["records"]
    assert 0 < kept <= web.items
    assert web.run("--limit", "10").code == 0
    assert json.loads(web.state.read_text())["records"] == kept + 10


def test_an_import_of_which_nothing_can_be_made_is_given_up(web: Web) -> None:
    json_lines(web.file, [{"task_id": f"HumanEval/{i}", "prompt": "def f():"} for i in range(300)])
    done = web.run()
    assert done.code == 2
    assert "Nothing could be made of the first 100 records. Are they of another source?" in done.err
    assert outcomes(done) == {"REFUSED": 100}


def test_a_state_of_another_namespace_is_not_taken(web: Web) -> None:
    web.write(1)
    assert web.run().code == 0
    done = web.run("-n", "elsewhere")
    assert done.code == 2
    assert "another source, namespace or options" in done.err


def test_a_file_that_ends_in_the_middle_is_imported_up_to_there(web: Web, tmp_path: Path) -> None:
    web.write(50)
    whole = gzip.compress(web.file.read_bytes())
    web.file = tmp_path / "c4.jsonl.gz"
    web.file.write_bytes(whole[:-12])
    done = web.run()
    assert done.code == 2
    assert "c4.jsonl.gz cannot be read" in done.err
    assert web.items > 0
    assert json.loads((tmp_path / "c4.jsonl.gz.c4.import-state").read_text())["records"] == web.items
