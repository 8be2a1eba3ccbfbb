"""Quantities are read as Kubernetes reads them, and one that is none is told with its place."""

import copy
from fractions import Fraction

import pytest

from tests.support.manifests import checks
from tests.support.manifests.breaks import CONTAINER, PRODUCTION_OVERLAY, SET, sound
from tests.support.manifests.edits import put
from tests.support.manifests.quantities import amount_of, quantities

RESOURCES = f"{CONTAINER}/resources"


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        *((f"1{unit}i", 1024**power) for power, unit in enumerate("KMGTPE", start=1)),
        *((f"1{unit}", 1000**power) for power, unit in enumerate("kMGTPE", start=1)),
        ("1.5Gi", 3 * 2**29),
        ("2000M", 2 * 10**9),
        ("2000k", 2 * 10**6),
        ("500m", Fraction(1, 2)),
        ("1u", Fraction(1, 10**6)),
        ("1n", Fraction(1, 10**9)),
        ("2e9", 2 * 10**9),
        ("2E9", 2 * 10**9),
        ("1.5e+3", 1500),
        ("5e-1", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+4", 4),
        ("0", 0),
        (4294967296, 2**32),
        (1.5, Fraction(3, 2)),
        (1e21, 10**21),
    ],
)
def test_a_quantity_comes_to_what_kubernetes_makes_of_it(quantity: object, amount: int | Fraction) -> None:
    assert amount_of(quantity) == amount


@pytest.mark.parametrize("text", ["", "Gi", "4GB", "4gi", "1K", "1ki", "4 Gi", "1e3Ki", "1.2.3", "e3", "1e", "٤", "-"])
def test_what_kubernetes_refuses_is_no_quantity(text: str) -> None:
    assert amount_of(text) is None


@pytest.mark.parametrize("value", [None, True, ["1Gi"], {"memory": "1Gi"}])
def test_what_is_no_scalar_is_no_quantity(value: object) -> None:
    assert amount_of(value) is None


@pytest.mark.parametrize("memory", [4294967296, "4294967296", "4.0Gi", "4194304Ki", "4.294967296e9", "4294967296000m"])
def test_as_much_may_be_said_in_other_words(memory: object) -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    put(SET, f"{RESOURCES}/limits/memory", memory)(objects)
    assert not checks.findings(objects, production=True)


def test_of_fields_of_one_kind_only_that_kinds_are_quantities() -> None:
    foreign = {"kind": "Rollout", "spec": {"default": {"policy": "allow"}, "max": {"mode": "fast"}, "hard": {"a": "b"}}}
    assert not [*quantities(foreign)]
    limits = {"kind": "LimitRange", "spec": {"limits": [{"max": {"memory": "4GB"}}]}}
    assert [*quantities(limits)] == [("spec.limits.0.max.memory", "4GB")]


def test_what_is_no_quantity_is_told_by_object_and_field() -> None:
    objects = copy.deepcopy(sound(PRODUCTION_OVERLAY))
    for what in ("requests", "limits"):
        put(SET, f"{RESOURCES}/{what}/memory", "4GB")(objects)
    assert [str(finding) for finding in checks.findings(objects, production=True)] == [
        f"StatefulSet epistream: spec.template.spec.containers.0.resources.{what}.memory: "
        "expected a quantity, such as 1536Mi, 1.5Gi or 2G; found '4GB' [quantities_can_be_read]"
        for what in ("limits", "requests")
    ]
