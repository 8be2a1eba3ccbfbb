"""Code that waits for its tests, on a real service with a real executor: let in, turned away, left to people (R28)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from epistream.clients import Credentials, SyncReviewClient
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns
from tests.support.certificates import Authority, put
from tests.support.code_namespace import CodeNamespace, run_executor, running_executor
from tests.support.security import hash_of
from tests.support.service import RunningService, running_service
from tests.support.waits import wait_until

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
ADDS = ("assert add(1, 2) == 3", "assert add(-1, 1) == 0")
WEAK = ("assert add(1, 0) == 1", "assert add(5, 0) == 5")
TOTAL = "def total(xs):\n    out = 0\n    for x in xs:\n        out = add(out, x)\n    return out\n"
TOTALS = ("assert total([1, 2, 3]) == 6", "assert total([]) == 0")
VERIFY = ns.Policy(verify_code=True)
ACCESS = f"""
[roles.all]
verbs = ["read", "write", "watch", "review", "admin"]
namespaces = ["*"]

[roles.executor]
verbs = ["read", "write", "watch", "review"]
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


@pytest.fixture
def code(service: RunningService) -> Iterator[CodeNamespace]:
    with CodeNamespace(service.address, policy=VERIFY) as namespace:
        yield namespace


def counts(code: CodeNamespace) -> tuple[int, int, int]:
    """Items in answers, held, rejected."""
    known = code.client.namespace(code.name)
    return known.item_count, known.held_count, known.rejected_count


def test_verified_code_is_let_in_and_what_fails_is_turned_away(code: CodeNamespace) -> None:
    receipts = [code.submit("add", ADD, *ADDS, origin="SYNTHETIC"), code.submit("sub", WRONG, *ADDS, origin="CRAWLED")]
    assert [each.reason for each in receipts] == [pb.REASON_UNVERIFIED] * 2
    assert counts(code) == (0, 2, 0)
    with running_executor(code):
        wait_until(lambda: counts(code) == (1, 0, 1), "both decisions")
        # What was let in is a version like any other, which is judged as one.
        wait_until(lambda: code.verdicts("add") == ["verified", "verified"], "the verdict on the version")
    knowledge = code.client.get(code.name, "add").change.knowledge
    assert (knowledge.content, knowledge.origin) == (ADD, pb.ORIGIN_SYNTHETIC)
    assert code.verdicts("sub") == ["fail"]


def test_an_expert_s_code_does_not_wait(code: CodeNamespace) -> None:
    assert code.submit("add", WRONG, *ADDS).outcome == pb.OUTCOME_ADMITTED
    run_executor(code)
    assert code.verdicts("add") == ["fail"]
    assert counts(code) == (1, 0, 0)


def test_r24_what_passes_its_tests_is_taken_beyond_the_cap_on_generations(code: CodeNamespace) -> None:
    code.submit("0", ADD, *ADDS)
    with running_executor(code):
        for number in range(1, 4):
            content = ADD + f"\nCOPIED = {number}\n"
            receipt = code.submit(str(number), content, *ADDS, derived_from=[str(number - 1)], origin="SYNTHETIC")
            assert (receipt.reason, receipt.figures.generation) == (pb.REASON_UNVERIFIED, number)
            wait_until(lambda: counts(code)[1] == 0, "the release")
    assert counts(code) == (4, 0, 0)
    change = code.client.get(code.name, "3").change
    assert (change.generation, change.figures.generation_max, change.verified_by) == (3, 2, "executor")


def test_what_tests_do_not_decide_is_left_to_people_once(code: CodeNamespace) -> None:
    code.submit(
        "none", "def f(x):\n    return x + 1\n", origin="SYNTHETIC", tests=pb.Tests(language="go", asserts=["x"])
    )
    code.submit("vacuous", "def g(x):\n    return x + 2\n", "g(1)", origin="SYNTHETIC")
    code.submit("numpy", "import numpy_is_not_here\n", "assert True", origin="SYNTHETIC")
    done = run_executor(code)
    assert {each["item_id"]: each["verdict"] for each in done} == {
        "none": "no_tests",
        "vacuous": "vacuous",
        "numpy": "error",
    }
    assert counts(code) == (0, 3, 0)
    run_executor(code)
    assert [code.verdicts(name) for name in ("none", "vacuous", "numpy")] == [["no_tests"], ["vacuous"], ["error"]]


def test_r28_a_dependant_that_breaks_blocks_the_new_version(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS, origin="COLLABORATIVE")
    with running_executor(code):
        wait_until(lambda: counts(code) == (1, 0, 0), "the release of what others depend on")
        code.submit("total", TOTAL, *TOTALS, derived_from=["add"], origin="COLLABORATIVE")
        wait_until(lambda: counts(code) == (2, 0, 0), "the release of the dependant, with the code before it")
        code.submit("add", WRONG, *WEAK, origin="COLLABORATIVE")
        wait_until(lambda: len(code.feedback("add", "regression")) == 1, "the survival of the new version")
        code.submit("add", ADD.replace("a + b", "b + a"), *ADDS, origin="COLLABORATIVE")
        wait_until(lambda: code.client.get(code.name, "add").change.version == 2, "the release of a harmless version")
    assert counts(code) == (2, 1, 0)
    assert "b + a" in code.client.get(code.name, "add").change.knowledge.content
    blocked = code.feedback("add", "regression")[0].feedback
    assert blocked.judged[0].score == 0.0
    assert "broken: total: fail: asserts[0]" in blocked.rationale
    assert code.verdicts("total")[-1] == "verified"


def test_what_waits_for_what_it_is_derived_from_is_run_again_when_that_comes(code: CodeNamespace) -> None:
    with running_executor(code):
        code.submit("total", TOTAL, *TOTALS, derived_from=["add"], origin="COLLABORATIVE")
        wait_until(lambda: code.verdicts("total") == ["error"], "the first verdict")
        assert counts(code) == (0, 1, 0)
        code.submit("add", ADD, *ADDS)
        wait_until(lambda: counts(code) == (2, 0, 0), "the release")
    assert "run again for add version 1" in code.feedback("total")[1].feedback.rationale


def test_what_another_looks_at_is_passed_over_until_it_is_let_go_of(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS, origin="SYNTHETIC")
    with SyncReviewClient(code.address, reviewer="dr-eve") as eve:
        (review,) = eve.reviews(code.name).reviews
        eve.claim(code.name, review.review_id)
        with running_executor(code):
            for name in ("sub", "mul"):  # what waits at that time it has looked at, all of it
                code.submit(name, WRONG + f"\nNAME = {name!r}\n", *ADDS, origin="SYNTHETIC")
                wait_until(lambda: counts(code)[1] == 1, "the decision on what nobody looks at")
            assert counts(code) == (0, 1, 2)
            eve.claim(code.name, review.review_id, seconds=0)
            wait_until(lambda: counts(code) == (1, 0, 2), "the decision on what is let go of")


def test_what_it_had_claimed_itself_when_it_was_ended_it_takes_up_again(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS, origin="SYNTHETIC")
    with SyncReviewClient(code.address, reviewer="executor", origin="SYNTHETIC") as before:
        (review,) = before.reviews(code.name).reviews
        before.claim(code.name, review.review_id)
    run_executor(code)
    assert counts(code) == (1, 0, 0)


def test_what_it_may_not_decide_people_need_not_wait_for(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS, origin="SYNTHETIC")
    code.submit("plus", ADD, *ADDS)
    code.producer.retract(code.name, "plus", producer="dr-ada", origin="EXPERT")
    run_executor(code)
    with SyncReviewClient(code.address, reviewer="dr-eve") as eve:
        (review,) = eve.reviews(code.name).reviews
        assert not review.HasField("claim")
        assert eve.reject(code.name, review.review_id).outcome == pb.OUTCOME_REJECTED


def test_what_was_set_anew_while_it_waited_is_not_let_in_though_its_tests_pass(code: CodeNamespace) -> None:
    code.submit("add", ADD, *ADDS, origin="SYNTHETIC")
    code.submit("add", ADD.replace("a + b", "b + a"), *ADDS)
    run_executor(code)
    assert counts(code) == (1, 0, 1)
    assert "b + a" in code.client.get(code.name, "add").change.knowledge.content


def test_it_reviews_with_no_more_than_a_role_of_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    put(tmp_path / "access.toml", ACCESS)
    flags = authority.service_flags() | {"access_file": str(tmp_path / "access.toml")}
    with running_service(tmp_path / "data", flags) as service:
        root = Credentials(tls_ca_file=authority.ca_file, token="root")
        with CodeNamespace(service.address, root, VERIFY, name="programs") as code:
            code.submit("add", ADD, *ADDS, origin="SYNTHETIC")
            shown = {"EPISTREAM_TLS_CA_FILE": str(authority.ca_file), "EPISTREAM_TOKEN": "executor"}
            run_executor(code, **shown)
            assert counts(code) == (1, 0, 0)
