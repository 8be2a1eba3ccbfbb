"""Every `kubectl` command of the documents: kubectl takes it, and what it names is there when an overlay is applied."""

import re
from pathlib import Path

import pytest

from tests.support.manifests.cluster import K8S, ROOT, Cluster, objects_of, rendered
from tests.support.manifests.kubectl import Kubectl, namespaces_in, objects_in, strangers

ENDED = ("EpistreamDown", "EpistreamRestarting")
"""Alerts of a process that has ended, whose log is not that of the one since."""
PAGES = [K8S / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(?:sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[str]:
    """Each line of a block of commands, and each piece of code within a sentence, that calls kubectl with arguments."""
    text = page.read_text()
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    inline = re.findall(r"`(kubectl [^`]+)`", FENCED.sub("", text))
    called = [line for line in lines if re.search(r"(^|&& |\| )kubectl ", line)] + inline
    return [line for line in called if len(line.split()) > 2]


COMMANDS = [(page, line) for page in PAGES for line in commands_of(page)]
each_command = pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[line for _, line in COMMANDS])


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    folders = (K8S / name for name in ("namespace", "examples/own-cluster", "examples/redrive"))
    return Cluster([item for folder in folders for item in objects_of(rendered(folder))])


@each_command
def test_kubectl_takes_it(page: Path, line: str) -> None:
    assert Kubectl.of(line).refusal() == "", page


@each_command
def test_what_it_names_is_there(page: Path, line: str, cluster: Cluster) -> None:
    command = Kubectl.of(line)
    made = [Kubectl.of(other).made() for other in commands_of(page)]
    there = objects_in(cluster) | {one for one in made if one is not None}
    assert strangers(command, there) == []
    assert command.namespace in {"", "$KAFKA_NAMESPACE"} | namespaces_in(cluster)


@pytest.mark.parametrize("alert", ENDED)
def test_where_a_process_has_ended_its_own_log_is_looked_at(alert: str) -> None:
    section = (ROOT / "docs/runbooks.md").read_text().partition(f"## {alert}\n")[2].partition("\n## ")[0]
    assert "kubectl -n epistream logs epistream-0 --previous" in section


def test_the_pages_have_some() -> None:
    assert {page.name for page, _ in COMMANDS} >= {"README.md", "runbooks.md"}
    verbs = {Kubectl.of(line).arguments[2] for _, line in COMMANDS if " -n epistream " in line}
    assert verbs >= {
        "annotate",
        "create",
        "delete",
        "describe",
        "exec",
        "get",
        "logs",
        "port-forward",
        "rollout",
        "scale",
        "wait",
    }


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("kubectl -n epistream scale statefulset epistream-0 --replicas=0", [("statefulset", "epistream-0")]),
        ("kubectl -n epistream create job j --from=cronjob/maintenance", [("cronjob", "maintenance")]),
        ("kubectl -n epistream exec job/maintenance -- epistream fsck", [("job", "maintenance")]),
        ("kubectl -n epistream logs epistream-1 --previous", [("pod", "epistream-1")]),
        ("kubectl -n epistream logs epistream-0 --previous", []),
        ("kubectl -n epistream get deployments", [("deployment", "")]),
        ("kubectl -n epistream port-forward service/metrics 9464:9464 &", [("service", "metrics")]),
        ("kubectl -n epistream get jobs   # of the CronJob", []),
    ],
)
def test_what_is_not_there_is_found(line: str, wrong: list[tuple[str, str]], cluster: Cluster) -> None:
    assert strangers(Kubectl.of(line), objects_in(cluster)) == wrong


def test_a_flag_that_kubectl_does_not_have_is_found() -> None:
    assert "unknown flag: --replica" in Kubectl.of("kubectl scale statefulset epistream --replica=0").refusal()
