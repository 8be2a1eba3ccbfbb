"""The commands of docs/runbooks.md and docs/operations.md, run as they are written, each on a service that it is for.

tests/manifests/test_kubectl.py has those that call kubectl.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw
import pytest
import trustme
import yaml

from epistream.clients.cli.services import COMMANDS
from epistream.indexer.encoder import PACKAGED_MODEL
from epistream.indexer.store import FILE
from epistream.services.kafka.local import LocalKafka, free_ports
from epistream.services.kafka.topics import ensure_topics
from epistream.wire.topics import EXPERT, dead_letter_topic
from tests.support.certificates import put
from tests.support.cli import COMMAND, Ran, clean_environment, epistream, epistream_process
from tests.support.collapsing import collapsed, opened
from tests.support.kafka import Kafka
from tests.support.kafka_runtime import kafka_runtime
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
TEXT: Final = "\n".join((DOCS / name).read_text() for name in ("runbooks.md", "operations.md"))
PROGRAMS: Final = ("epistream", "curl", "openssl", "du", "cat", "sed", "make", "grep")
FENCED: Final = re.compile(r"^ *```\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the two pages, without its comment, in their order: in blocks, and within sentences."""
    lines = [line.split("  #")[0].strip() for block in FENCED.findall(TEXT) for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", FENCED.sub("", TEXT))
    called = [line for line in (*lines, *inline) if line.split(" ")[0] in PROGRAMS and " " in line]
    return list(dict.fromkeys(called))


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command ends with, and a pattern of what it prints."""

    pattern: str
    code: int = 0


RUNNING: Final = {
    "epistream namespaces list": Shown(r"pharmacy"),
    "epistream review list -n NAMESPACE": Shown(r"0 wait"),
    "epistream alarms -n NAMESPACE --on": Shown(r"^producer .*alarm"),
    "epistream alarms -n NAMESPACE": Shown(r"^producer .*alarm"),
    "epistream signals -n NAMESPACE": Shown(r"long_win_share"),
    "epistream namespaces policy NAMESPACE --set real_share_floor=0.4": Shown(r"pharmacy"),
    'epistream search "..." -n NAMESPACE --producer PRODUCER': Shown(r"limit-adults"),
    "epistream namespaces policy NAMESPACE --set on_collapse=COLLAPSE_ACTION_HOLD": Shown(r"pharmacy"),
    "epistream consumers -n pharmacy": Shown(r"epistream-watch"),
    "epistream consumers -n NAMESPACE": Shown(r"epistream-watch"),
    'epistream search "How much may an adult take?" -n pharmacy': Shown(r"(?s)limit-adults.*5 mg|5 mg.*limit-adults"),
    "epistream history limit-adults -n pharmacy --json": Shown(r'"producer": ?"dr-ada"'),
    "epistream get limit-adults -n pharmacy --as-of 2026-01-31T12:00:00Z": Shown(r"5 mg"),
    'epistream submit "The daily limit for adults is 6 mg." -n pharmacy -o expert -p dr-ada --id limit-adults': Shown(
        r"^REVISED .*limit-adults version 2"
    ),
    "epistream retract limit-adults -n pharmacy -o expert -p dr-ada": Shown(r"limit-adults"),
    "epistream redrive --kafka localhost:9092 --dry-run": Shown(
        rf"(?s)offset \d: UNKNOWN_NAMESPACE: namespace: .*{re.escape(dead_letter_topic(EXPERT))}: 2 would be redriven"
    ),
    "epistream redrive --folder DATA --dry-run": Shown(r"^store: 0 would be redriven, 0 left$"),
    "epistream redrive --kafka localhost:9092 --reason unknown_namespace": Shown(r": 1 redriven, 1 left"),
    "epistream redrive --kafka localhost:9092 --reason malformed": Shown(r": 1 redriven"),
    "epistream backup --output /backups/": Shown(r"\.backup"),
    "epistream backup --output /backups/ --keep 14": Shown(r"\.backup"),
    "du -sh DATA/*": Shown(r"store\.sqlite"),
}
"""With a service that goes well: on the right what is shown of `well`."""
STOPPED: Final = {
    "epistream fsck --folder DATA": Shown(r": all is well$"),
    "epistream fsck --folder DATA --rebuild": Shown(r"(?s)^rebuilt from \d+ journal entries.*: all is well$"),
    "epistream restore /backups/NEWEST.backup --folder NEW": Shown(r"(?s)restored as of .*facts at revision"),
    "epistream kafka reread TOPIC PARTITION --folder DATA": Shown(r"begins where the setting kafka_start says"),
    "epistream kafka reread TOPIC PARTITION OFFSET --folder DATA": Shown(r"begins at offset 1$"),
}
"""With the service stopped."""
SECURED: Final = {
    'curl -s --cacert ca.crt -H "Authorization: Bearer $(cat token)" https://HOST:9464/metrics': Shown(
        r"(?m)^epistream_build_info"
    ),
    "epistream access check access.toml": Shown(r"(?s)advisor\n  read in pharmacy\n.*operator\n.*: 2 principals"),
    "epistream access check FILE": Shown(r": 2 principals"),
    "openssl s_client -connect 127.0.0.1:7443 </dev/null 2>/dev/null | openssl x509 -noout -enddate -subject": Shown(
        r"(?s)notAfter=.*subject="
    ),
    "openssl x509 -noout -enddate -in tls.crt": Shown(r"notAfter="),
    """cat $(ls -rv audit.jsonl*) | grep '"principal": "advisor"'""": Shown(r"PERMISSION_DENIED"),
}
"""With a service that has TLS, an access file and an audit file."""
NAMED: Final = {
    "epistream up",
    "epistream up --help",
    "epistream diff",
    "epistream feedback",
    "epistream kafka up",
    "epistream review -n NAMESPACE -r REVIEWER",
    "epistream namespaces create",
    "epistream consumers",
}
"""What is spoken of as such, or asks for answers."""
OF_THE_METRICS: Final = re.compile(r"curl -sS? http://127\.0\.0\.1:9464/metrics \| ")
GREPS: Final = [line for line in commands() if OF_THE_METRICS.match(line) and "| grep" in line]


def test_every_command_is_run_here() -> None:
    elsewhere = {
        line for line in commands() if OF_THE_METRICS.match(line) or line.startswith(("make ", "sed ", "grep "))
    }
    assert set(commands()) - elsewhere == {*RUNNING, *STOPPED, *SECURED, *NAMED}


def test_every_target_of_make_is_there() -> None:
    targets = {line.split()[1] for line in commands() if line.startswith("make ")}
    there = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets
    assert targets <= there


def test_alerts_of_a_prometheus_of_one_s_own_lead_to_the_runbooks(tmp_path: Path) -> None:
    (command,) = (line for line in commands() if line.startswith("sed "))
    (tmp_path / "k8s").symlink_to(ROOT / "k8s")
    assert run(command, {}, tmp_path).code == 0
    groups = yaml.safe_load((tmp_path / "rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    links = [rule["annotations"]["runbook_url"] for rule in rules]
    assert links == [f"https://wiki.example.net/runbooks.md#{rule['alert'].lower()}" for rule in rules]


@pytest.mark.parametrize("command", sorted({command.removesuffix(" --help") for command in NAMED}))
def test_what_is_named_is_there(command: str) -> None:
    _, *words = shlex.split(command)
    done = (epistream_process if words[0] in COMMANDS else epistream)(*words, "--help")
    assert done.code == 0, done.err
    assert "Usage" in done.out


def run(command: str, filled_in: Mapping[str, str], folder: Path, **environment: str) -> Ran:
    """What an operator's shell does with a command, in `folder`, with what is written in capitals filled in."""
    if filled_in:
        words = sorted(filled_in, key=len, reverse=True)
        command = re.sub("|".join(map(re.escape, words)), lambda found: filled_in[found[0]], command)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=clean_environment(environment) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def assert_shows(done: Ran, shown: Shown) -> None:
    assert done.code == shown.code, done.out + done.err
    assert re.search(shown.pattern, done.out.strip()), done.out + done.err


# A service that goes well


@dataclass(frozen=True, slots=True)
class Well:
    """A service with the encoder and Kafka, somebody who follows, and two dead letters.

    Attributes:
        filled_in: what stands for what the pages say.
    """

    service: RunningService
    folder: Path
    filled_in: dict[str, str]

    def run(self, command: str) -> Ran:
        """What a command does that is pointed at it."""
        return run(command, self.filled_in, self.folder, EPISTREAM_ADDRESS=self.service.address)


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Of these tests alone: they count the dead letters of the usual topics, and send them on their way."""
    with LocalKafka(tmp_path_factory.mktemp("kafka"), runtime=kafka_runtime()) as running:
        ensure_topics(running.bootstrap)
        yield Kafka(running.bootstrap)


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory, own_kafka: Kafka) -> Iterator[Well]:
    folder = tmp_path_factory.mktemp("well")
    (folder / "backups").mkdir()
    filled_in = {
        "DATA": str(folder / "data"),
        "/backups/": f"{folder / 'backups'}/",
        "NAMESPACE": "pharmacy",
        "PRODUCER": "dr-ada",
        "localhost:9092": own_kafka.bootstrap,
    }
    with running_service(folder / "data", encoder=PACKAGED_MODEL, kafka=own_kafka.bootstrap) as service:
        filled_in["127.0.0.1:9464"] = service.metrics_address
        well = Well(service, folder, filled_in)
        assert well.run("epistream namespaces create pharmacy").code == 0
        said = well.run(
            'epistream submit "The daily limit for adults is 5 mg." -n pharmacy -o expert -p dr-ada --id limit-adults'
            " --timeout 200"
        )
        assert said.code == 0, said.err
        filled_in["2026-01-31T12:00:00Z"] = datetime.now(UTC).isoformat()
        with following(service.address, folder / "followed.jsonl"):
            send_what_becomes_dead_letters(well, own_kafka)
            yield well


@contextmanager
def following(address: str, shown: Path) -> Iterator[None]:
    """Somebody who follows the namespace, and acknowledges what comes, which goes to the file `shown`."""
    watch = [*COMMAND, "watch", "-n", "pharmacy", "-a", address, "--after", "0", "--json"]
    with shown.open("w") as out, subprocess.Popen(watch, env=clean_environment({}), stdout=out) as process:
        try:
            wait_until(lambda: "5 mg" in shown.read_text(), "what is followed")
            yield
        finally:
            process.kill()


def send_what_becomes_dead_letters(well: Well, kafka: Kafka) -> None:
    """A submission for a namespace that is missing, and a record that is none; and one that is taken."""
    sending = f"epistream produce - -k {kafka.bootstrap} -o expert -p dr-ada"
    for namespace in ("nowhere", "pharmacy"):
        sent = well.run(f'echo \'{{"content": "A fact.", "item_id": "a"}}\' | {sending} -n {namespace}')
        assert sent.code == 0, sent.err
    kafka.produce(EXPERT, [b"not one"])
    wait_until(lambda: len(kafka.read(dead_letter_topic(EXPERT))) == 2, "the dead letters")
    wait_until(lambda: well.service.metric('epistream_store_revision{namespace="pharmacy"}') == 2, "the fact")


@pytest.mark.parametrize("command", RUNNING)
def test_what_is_asked_of_a_service_that_runs(well: Well, command: str) -> None:
    assert_shows(well.run(command), RUNNING[command])


IN_TROUBLE_ONLY: Final = (
    "ingest_stopped",
    "ingest_retries_total",
    "auth_failures_total",
    "resyncs",
    "reviews_pending",
    "review_oldest",
)
"""Of these there is no sample in a good hour, only the description; what is in trouble has tests of its own below."""


@pytest.mark.parametrize("command", GREPS)
def test_what_is_looked_for_in_the_metrics_is_found(well: Well, command: str) -> None:
    first, *narrower = command.split(" | ")[1:]
    pattern = shlex.split(first)[-1]
    found = well.run(command.partition(f" | {narrower[0]}")[0] if narrower else command)
    assert found.code == 0, found.err
    samples = [line for line in found.out.splitlines() if not line.startswith("#")]
    for one in alternatives(pattern):
        # In a good hour the description alone is there, and a pattern that begins with ^ does not show it.
        described = any(name in one for name in IN_TROUBLE_ONLY)
        lines = well.service.metrics_page().splitlines() if described else samples
        assert any(re.search(one.removeprefix("^"), line) for line in lines), f"{one} is in none of:\n{found.out}"


def alternatives(pattern: str) -> list[str]:
    """Each of `a|b`, and of `x_(a|b)_y` what each of a and b makes of it."""
    inner = re.search(r"\(([^()]*)\)", pattern)
    if inner is not None:
        made = (f"{pattern[: inner.start()]}{one}{pattern[inner.end() :]}" for one in inner[1].split("|"))
        return [each for one in made for each in alternatives(one)]
    return pattern.split("|")


def test_the_answer_of_the_metrics_or_why_there_is_none(well: Well) -> None:
    (command,) = (line for line in commands() if line.endswith("| head -3"))
    assert len(well.run(command).out.splitlines()) == 3
    nothing = f"127.0.0.1:{free_ports(1)[0]}"
    away = run(command, {"127.0.0.1:9464": nothing}, well.folder)
    assert away.out == ""
    assert "Failed to connect" in away.err
    assert run("epistream namespaces list", {}, well.folder, EPISTREAM_ADDRESS=nothing).code == 3


# A store without its service


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store `data` of a service that was stopped, and a backup of it in `backups`."""
    folder = tmp_path_factory.mktemp("kept")
    with running_service(folder / "data") as service:
        made = epistream(
            "namespaces", "create", "facts", "--encoder", "none", "--dimension", "2", "-a", service.address
        )
        assert made.code == 0, made.err
        submit_vectors(service.address, 3)
        (folder / "backups").mkdir()
        assert epistream("backup", "--output", f"{folder / 'backups'}/", "-a", service.address).code == 0
        assert service.stop() == 0
    return folder


def submit_vectors(address: str, count: int) -> None:
    """So many items, with vectors, since the service has no encoder."""
    lines = [
        f'{{"item_id": "{n}", "content": "Fact {n}.", "embedding": {{"float32": "{VECTORS[n % 2]}"}}}}\n'
        for n in range(count)
    ]
    done = epistream(
        "submit", "-", "-n", "facts", "-o", "expert", "-p", "ada", "-a", address, stdin="".join(lines).encode()
    )
    assert done.code == 0, done.err


VECTORS: Final = ("AACAPwAAAAA=", "AAAAAAAAgD8=")
"""Two that are at right angles, as base64 of 32-bit floats."""


@pytest.fixture
def stopped(kept: Path, tmp_path: Path) -> dict[str, str]:
    """What stands for what the pages say, over a copy of it."""
    shutil.copytree(kept, tmp_path / "kept")
    (backup,) = (tmp_path / "kept" / "backups").iterdir()
    return {
        "DATA": str(tmp_path / "kept" / "data"),
        "NEW": str(tmp_path / "new"),
        "/backups/NEWEST.backup": str(backup),
        "TOPIC": EXPERT,
        "PARTITION": "0",
        "OFFSET": "1",
    }


@pytest.mark.parametrize("command", STOPPED)
def test_what_is_done_with_a_stopped_store(stopped: dict[str, str], tmp_path: Path, command: str) -> None:
    assert_shows(run(command, stopped, tmp_path), STOPPED[command])


def test_a_damaged_journal_is_told_and_a_backup_helps(stopped: dict[str, str], tmp_path: Path) -> None:
    """EpistreamCallsFailing, EpistreamBackupMissing, "Something is damaged"."""
    data = Path(stopped["DATA"])
    connection = apsw.Connection(str(data / FILE))
    connection.execute("UPDATE journal SET change = zeroblob(9) WHERE sequence = 2")
    connection.close()
    with running_service(data) as service:
        asked = {"EPISTREAM_ADDRESS": service.address}
        assert run("epistream history 0 -n facts", {}, tmp_path, **asked).code == 5
        assert run(f"epistream backup --output {tmp_path}/", {}, tmp_path, **asked).code == 5
        (failing,) = (line for line in GREPS if "DATA_LOSS" in line)
        seen = run(failing, {"127.0.0.1:9464": service.metrics_address}, tmp_path)
        assert 'code="DATA_LOSS"' in seen.out
    found = run("epistream fsck --folder DATA", stopped, tmp_path)
    assert found.code != 0
    assert "journal entry 2 is not what was written" in found.out + found.err
    before = (data / FILE).read_bytes()
    refused = run("epistream fsck --folder DATA --rebuild", stopped, tmp_path)
    assert refused.code != 0
    assert "restore a backup" in refused.out + refused.err
    assert (data / FILE).read_bytes() == before
    restore = "epistream restore /backups/NEWEST.backup --folder NEW"
    assert_shows(run(restore, stopped, tmp_path), STOPPED[restore])
    assert run("epistream fsck --folder NEW", stopped, tmp_path).code == 0


def test_a_watch_that_stands_still_says_so_in_the_log(tmp_path: Path) -> None:
    """EpistreamCollapseWatchStopped: a version that a window needs is damaged."""
    with closing(opened(tmp_path / "data")) as engine:
        collapsed(engine)
    with closing(apsw.Connection(str(tmp_path / "data" / FILE))) as connection:
        connection.execute(
            "UPDATE journal SET change = zeroblob(9) WHERE sequence = (SELECT max(sequence) FROM journal)"
        )
    (command,) = (line for line in commands() if line.startswith("grep "))
    with running_service(tmp_path / "data") as service:
        wait_until(lambda: service.metric("epistream_collapse_failures_total") > 0, "the watch to stand still")
        said = run(command, {"LOG": str(service.log)}, tmp_path)
    assert_shows(said, Shown(r"The collapse watch stands still: .* is not what was written"))
    (verify,) = (line for line in STOPPED if line.endswith("fsck --folder DATA"))
    found = run(verify, {"DATA": str(tmp_path / "data")}, tmp_path)
    assert "is not what was written" in found.out + found.err


# A partition that stands still


def test_a_stopped_partition_is_read_again_where_somebody_decides(
    stopped: dict[str, str], own_kafka: Kafka, tmp_path: Path
) -> None:
    """EpistreamPartitionStopped, EpistreamIngestStalled, "Nothing new comes in"."""
    topic = own_kafka.new_topic()
    ensure_topics(own_kafka.bootstrap, submission_topics=(topic,))
    own_kafka.produce(topic, [b"not one"])
    filled_in = {**stopped, "TOPIC": topic, "OFFSET": "1000"}
    beyond, again = (line for line in sorted(STOPPED, key=len, reverse=True) if "reread" in line)
    assert run(beyond, filled_in, tmp_path).code == 0
    settings = {"kafka_topics": topic, "kafka_group": topic}
    with running_service(Path(stopped["DATA"]), settings, kafka=own_kafka.bootstrap) as service:
        (command,) = (line for line in GREPS if line.endswith("grep ingest_stopped"))
        at = {"127.0.0.1:9464": service.metrics_address}
        stands_still = f'epistream_ingest_stopped{{partition="0",reason="OFFSET_OUT_OF_RANGE",topic="{topic}"}} 1.0'
        wait_until(lambda: stands_still in run(command, at, tmp_path).out, "the partition to be stopped")
        assert f"`epistream kafka reread {topic} 0 --folder FOLDER`" in service.logged()
        assert service.stop() == 0
        assert run(again, filled_in, tmp_path).code == 0
        service.start()
        wait_until(lambda: service.metric('epistream_dlq_total{reason="malformed"}') == 1, "the record's effect")
        assert stands_still not in run(command, {"127.0.0.1:9464": service.metrics_address}, tmp_path).out


# A service that asks who is there

ACCESS: Final = f"""
[roles.reader]
verbs = ["read"]
namespaces = ["pharmacy"]

[roles.operator]
verbs = ["admin", "monitor"]
namespaces = ["*"]

[principals.advisor]
roles = ["reader"]
token_hashes = ["{hash_of("advisor")}"]

[principals.operator]
roles = ["operator"]
token_hashes = ["{hash_of("operator")}"]
"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Well]:
    """One whose advisor was turned away once, as was somebody who showed nothing."""
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.crt")
    leaf.private_key_pem.write_to_path(folder / "tls.key")
    leaf.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    put(folder / "access.toml", ACCESS)
    put(folder / "token", "operator\n")
    put(folder / "advisor", "advisor\n")
    files = {
        "tls_cert_file": "tls.crt",
        "tls_key_file": "tls.key",
        "access_file": "access.toml",
        "audit_file": "audit.jsonl",
    }
    with running_service(folder / "data", {name: str(folder / file) for name, file in files.items()}) as service:
        filled_in = {
            "127.0.0.1:7443": service.address,
            "HOST:9464": service.metrics_address,
            "FILE": "access.toml",
        }
        secured = Well(service, folder, filled_in)
        asking = "epistream namespaces create other --encoder none --dimension 2 --tls-ca-file ca.crt"
        assert secured.run(f"{asking} --token-file advisor").code == 1
        assert secured.run(asking).code == 1
        yield secured


@pytest.mark.parametrize("command", SECURED)
def test_what_is_asked_of_a_service_that_asks_who_is_there(secured: Well, command: str) -> None:
    assert_shows(secured.run(command), SECURED[command])


def test_who_was_turned_away_and_what_is_wrong_with_the_access_file(secured: Well) -> None:
    """EpistreamAuthFailures, EpistreamSecurityErrors."""
    read = 'curl -s --cacert ca.crt -H "Authorization: Bearer $(cat token)" https://HOST:9464/metrics'

    def seen(name: str) -> str:
        (grep,) = (line.partition(" | ")[2] for line in GREPS if line.endswith(f"grep {name}"))
        return secured.run(f"{read} | {grep}").out

    assert 'epistream_auth_failures_total{reason="permission_denied"} 1.0' in seen("auth_failures_total")
    assert 'epistream_auth_failures_total{reason="unauthenticated"} 1.0' in seen("auth_failures_total")
    put(secured.folder / "access.toml", ACCESS.replace('verbs = ["read"]', 'verbs = ["reed"]'))
    try:
        counted = re.compile(r'part="access_file"} [1-9]')
        wait_until(lambda: counted.search(seen("security_errors_total")), "the error to be counted")
        checked = secured.run("epistream access check access.toml")
        assert checked.code == 1
        assert "roles.reader.verbs" in checked.err
        assert "roles.reader.verbs" in secured.service.logged()
    finally:
        put(secured.folder / "access.toml", ACCESS)
