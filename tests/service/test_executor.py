"""The executor on a real service: verdicts come as feedback, and an update runs its dependants again (R27, R28)."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from epistream.clients import Credentials
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from epistream.wire.errors import Resync
from tests.support.certificates import Authority, put
from tests.support.cli import clean_environment
from tests.support.code_namespace import (
    END_SECONDS,
    CodeNamespace,
    executor_command,
    run_executor,
    running_executor,
)
from tests.support.code_sample import SAMPLE, sampled
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
ADDS = ("assert add(1, 2) == 3", "assert add(-1, 1) == 0")
ACCESS = f"""
[roles.all]
verbs = ["read", "write", "watch", "admin"]
namespaces = ["*"]

[roles.executor]
verbs = ["read", "write", "watch"]
namespaces = ["programs"]
origins = ["SYNTHETIC"]
producers = ["executor"]
consumers = ["executor"]

[principals.root]
roles = ["all"]
token_hashes = ["{hash_of("root")}"]

[principals.executor]
roles = ["executor"]
token_hashes = ["{hash_of("executor")}"]
"""
TOTAL = "def total(xs):\n    out = 0\n    for x in xs:\n        out = add(out, x)\n    return out\n"
TOTALS = ("assert total([1, 2, 3]) == 6", "assert total([]) == 0")


@pytest.fixture
def code(service: RunningService) -> Iterator[CodeNamespace]:
    with CodeNamespace(service.address) as namespace:
        yield namespace


def test_what_a_head_depends_on_is_there_also_where_its_own_revision_is_not_kept_any_more(
    service: RunningService,
) -> None:
    with CodeNamespace(service.address, policy=ns.Policy(retained_revisions=1)) as code:
        code.submit("add", ADD, *ADDS)
        code.submit("total", TOTAL, *TOTALS, derived_from=["add"])
        for name in "abc":
            code.submit(name, f"{name} = 1\n", tests=pb.Tests(language="go", asserts=["x"]))
        with pytest.raises(Resync):
            code.client.get(code.name, "add", as_of=2)
        run_executor(code)
        assert code.verdicts("total") == ["verified"]


def test_r27_each_version_gets_its_verdict_as_feedback(code: CodeNamespace) -> None:
    code.submit("add", WRONG, *ADDS)
    code.submit("add", ADD, *ADDS)
    code.submit(
        "stripped", "def sub(a, b):\n    return a - b\n", tests=pb.Tests(language="go", asserts=["sub(2, 1) == 1"])
    )
    code.submit("vacuous", "def one():\n    return 1 + 0\n", "assert True")

    done = run_executor(code)

    assert {(each["item_id"], each["which"], each["verdict"]) for each in done} == {
        ("add", "version 1", "fail"),
        ("add", "version 2", "verified"),
        ("stripped", "version 1", "no_tests"),
        ("vacuous", "version 1", "vacuous"),
    }
    by_version = {each.feedback.degree: each for each in code.feedback("add")}
    said = by_version["verified"].feedback
    assert (said.kind, said.rater_type, said.aspect) == (
        pb.FEEDBACK_KIND_BINARY,
        pb.RATER_TYPE_EXECUTOR,
        "execution",
    )
    assert [(each.item_id, each.score) for each in said.judged] == [("add", 1.0)]
    assert "version 2" in said.rationale
    assert "2 asserts in python" in said.rationale
    assert by_version["fail"].feedback.judged[0].score == 0.0
    assert "asserts[0]: fail: AssertionError" in by_version["fail"].feedback.rationale
    # R27: what nothing is shown of is not verified.
    assert [each.feedback.judged[0].score for name in ("stripped", "vacuous") for each in code.feedback(name)] == [0, 0]


def test_what_was_judged_is_not_run_again(service: RunningService, code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS)
    assert len(run_executor(code)) == 1
    service.restart()
    assert run_executor(code) == []
    code.submit("total", TOTAL, *TOTALS, derived_from=["add"])
    assert [each["item_id"] for each in run_executor(code)] == ["total"]
    assert code.verdicts("add") == ["verified"]


def test_another_executor_says_it_in_its_own_name(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS)
    run_executor(code)
    run_executor(code, "--name=second")
    assert [each.feedback.rater for each in code.feedback("add")] == ["executor", "second"]


def test_it_follows_and_goes_on_after_a_kill(service: RunningService, code: CodeNamespace) -> None:
    with running_executor(code) as executor:
        code.submit("add", ADD, *ADDS)
        wait_until(lambda: code.verdicts("add") == ["verified"], "the verdict")
        service.kill()
        service.restart()
        code.submit("total", TOTAL + ADD, *TOTALS)
        wait_until(lambda: code.verdicts("total") == ["verified"], "the verdict after a restart of the service")
        executor.send_signal(signal.SIGKILL)
    code.submit("add", WRONG, *ADDS)
    with running_executor(code) as executor:
        wait_until(lambda: code.verdicts("add") == ["verified", "fail"], "the verdict of the next executor")
        executor.terminate()
        assert executor.wait(END_SECONDS) == 0


def test_one_that_is_killed_leaves_no_process_behind(code: CodeNamespace) -> None:
    code.submit("sleeps", "import time\ntime.sleep(3600)\n", "assert True")
    with running_executor(code) as executor:
        below = psutil.Process(executor.pid)
        # Two sandboxes, each with bubblewrap, its first process, and one that runs the program or the tests.
        wait_until(lambda: len(below.children(recursive=True)) >= 6, "the sandboxes")
        processes = below.children(recursive=True)
        executor.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(each.is_running() for each in processes), "the end of all that it started")
    assert code.verdicts("sleeps") == []


def test_r28_an_update_runs_its_dependants_again(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS)
    code.submit("total", TOTAL, *TOTALS, derived_from=["add"])
    code.submit("alone", TOTAL.replace("total", "mine") + ADD, "assert mine([1, 2]) == 3", derived_from=["add"])
    mean = "def mean(xs):\n    return total(xs) / len(xs)\n"
    code.submit("mean", mean, "assert mean([1, 3]) == 2", "assert mean([5]) == 5", derived_from=["total"])
    run_executor(code)
    assert [code.verdicts(name) for name in ("add", "total", "alone", "mean")] == [["verified"]] * 4
    assert "the code before it of add" in code.feedback("total")[0].feedback.rationale
    assert "the code before it of add, total" in code.feedback("mean")[0].feedback.rationale
    assert code.feedback("add", "regression") == []

    # Its own tests are too weak to notice.
    code.submit("add", WRONG, "assert add(1, 0) == 1", "assert add(5, 0) == 5")
    [done] = run_executor(code)

    assert (done["verdict"], done["regression_survival"], sorted(done["broken"])) == (
        "verified",
        0.0,
        ["mean", "total"],
    )
    [rating] = code.feedback("add", "regression")
    assert rating.feedback.kind == pb.FEEDBACK_KIND_RATING
    assert (rating.feedback.judged[0].score, rating.feedback.scale_min, rating.feedback.scale_max) == (0.0, 0.0, 1.0)
    assert "broken: total: fail: asserts[0]" in rating.feedback.rationale
    assert code.verdicts("total") == ["verified", "fail"]
    assert "run again for add version 2" in code.feedback("total")[1].feedback.rationale
    # What stands alone does not depend on it.
    assert code.verdicts("alone") == ["verified"]

    code.submit("add", ADD.replace("a + b", "b + a"), *ADDS)
    [done] = run_executor(code)
    assert done["regression_survival"] is None
    assert code.verdicts("mean") == ["verified", "fail", "verified"]


def test_r28_a_harmless_update_breaks_nothing(code: CodeNamespace) -> None:
    code.submit("total", TOTAL, *TOTALS, derived_from=["add"])
    code.submit("add", ADD, *ADDS)
    code.submit("add", ADD.replace("a + b", "b + a"), *ADDS)
    done = {(each["item_id"], each["which"]): each for each in run_executor(code)}
    # It came before what it needs, and passes since that is there.
    assert code.verdicts("total") == ["error", "verified"]
    assert done["add", "version 2"]["regression_survival"] == 1.0
    assert [each.feedback.judged[0].score for each in code.feedback("add", "regression")] == [1.0]


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no sample data at {SAMPLE}")
def test_r28_published_programs_and_an_update_that_breaks_them(code: CodeNamespace) -> None:
    """Each published program is called by a program of our own, which passes its tests only together with it."""
    programs = [each for each in sampled() if each.verified and each.tests.asserts][:5]
    for at, each in enumerate(programs):
        code.submit(f"base-{at}", each.content, tests=each.tests)
        code.submit(f"over-{at}", "checked = True\n", tests=each.tests, derived_from=[f"base-{at}"])
    run_executor(code)
    for at, _ in enumerate(programs):
        code.submit(f"base-{at}", f"gone = {at}\n", "assert gone is not None")
    done = run_executor(code)
    assert [(each["regression_survival"], len(each["broken"])) for each in done] == [(0.0, 1)] * len(programs)


def test_it_shows_who_it_is_to_a_service_that_asks(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    put(tmp_path / "access.toml", ACCESS)
    flags = authority.service_flags() | {"access_file": str(tmp_path / "access.toml")}
    with running_service(tmp_path / "data", flags) as service:
        root = Credentials(tls_ca_file=authority.ca_file, token="root")
        with CodeNamespace(service.address, root, name="programs") as code:
            code.submit("add", ADD, *ADDS)
            shown = {"EPISTREAM_TLS_CA_FILE": str(authority.ca_file), "EPISTREAM_TOKEN": "executor"}
            assert [each["verdict"] for each in run_executor(code, **shown)] == ["verified"]
            assert code.verdicts("add") == ["verified"]


def test_it_does_not_begin_without_isolation(code: CodeNamespace, tmp_path: Path) -> None:
    code.submit("add", ADD, *ADDS)
    command = [*executor_command(code, "--once"), f"--bubblewrap={tmp_path}/none"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=END_SECONDS, env=clean_environment({})
    )
    assert done.returncode == 3
    assert "Programs cannot be isolated here" in done.stderr
    assert code.verdicts("add") == []
    done = subprocess.run(
        [*command, "--no-sandbox"],
        check=True,
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        env=clean_environment({}),
    )
    assert json.loads(done.stdout)["verdict"] == "verified"
    assert "WITHOUT A SANDBOX" in done.stderr
    assert "NONE: no sandbox" in code.feedback("add")[0].feedback.rationale
