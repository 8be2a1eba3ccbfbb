"""`epistream rehearse`: what is printed, and how it ends."""

import json
from pathlib import Path

import pytest

from epistream.indexer.store import Store
from tests.support.cli import epistream_process
from tests.support.knowing import NAMESPACE
from tests.support.rehearsing import lived


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lived") / "store"
    lived(folder)
    return str(folder)


def test_under_its_own_policies_nothing_differs(store: str) -> None:
    ran = epistream_process("rehearse", store, "-n", NAMESPACE)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0] == "0 of 459 decisions differ"


def test_what_differs_is_printed_for_people_and_for_programs(store: str) -> None:
    changed = ("--set", "generation_max=9", "--set", "guard=GUARD_HOLD")
    told = epistream_process("rehearse", store, "-n", NAMESPACE, *changed)
    described = json.loads(epistream_process("rehearse", store, "-n", NAMESPACE, *changed, "--json").out)

    assert told.code == 0
    differ = len(described["differences"])
    assert differ > 20, "more than are printed"
    assert f"{differ} of {described['decisions']} decisions differ" in told.out
    assert f"and {differ - 20} more" in told.out
    assert "  gpt Early 0: ADMITTED NEW -> HELD IMPLAUSIBLE" in told.out.splitlines()
    rows = {(row["before"]["reason"], row["after"]["reason"]): row["count"] for row in described["outcomes"]}
    assert sum(count for (before, after), count in rows.items() if before != after) == differ
    assert described["differences"][0] == {
        "sequence": 61,
        "producer": "gpt",
        "submission_id": "Early 0",
        "before": {"outcome": "ADMITTED", "reason": "NEW"},
        "after": {"outcome": "HELD", "reason": "IMPLAUSIBLE"},
    }
    assert described["before"]["items"] == 358
    assert described["after"]["items"] < 300


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("-n", "elsewhere"), 1, "there is no namespace 'elsewhere'"),
        (("-n", NAMESPACE, "--set", "nonsense=1"), 2, "no field of a policy"),
        (("-n", NAMESPACE, "--set", "generation_max=0"), 2, "policy.generation_max"),
        (("-n", NAMESPACE, "--set", "watch_every=64"), 2, "cannot be rehearsed"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(store: str, arguments: tuple[str, ...], code: int, told: str) -> None:
    ran = epistream_process("rehearse", store, *arguments)

    assert ran.code == code
    assert told in " ".join(ran.err.replace("│", "").split())


def test_a_folder_without_a_store_and_one_in_use_are_refused(tmp_path: Path, store: str) -> None:
    assert epistream_process("rehearse", str(tmp_path), "-n", NAMESPACE).code == 2
    assert list(tmp_path.iterdir()) == []
    opened = Store(Path(store))
    try:
        assert epistream_process("rehearse", store, "-n", NAMESPACE).code == 3
    finally:
        opened.close()
