"""Whatever Kubernetes takes, every policy can be asked about it: what is left out makes findings, no traceback."""

import copy
import random
from collections.abc import Iterator

import pytest

from tests.support.manifests import checks
from tests.support.manifests.breaks import CLIENTS, CRON, JOB, OWN_CLUSTER, POD, PRODUCTION_OVERLAY, SET, sound
from tests.support.manifests.cluster import Cluster, Object, name_of, without_nulls
from tests.support.manifests.edits import Edit, all_of, drop, put, say
from tests.support.manifests.policy import ALWAYS, Finding
from tests.support.manifests.schemas import VERSIONS, violation

SAMPLE = 200
Way = tuple[str | int, ...]


def ways_into(at: object, before: Way = ()) -> Iterator[Way]:
    """The way to each key of each mapping in an object, and to each entry of its lists."""
    entries = at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ()
    for key, each in entries:
        yield (*before, key)
        yield from ways_into(each, (*before, key))


def without(item: Object, way: Way, *, as_null: bool) -> Object:
    """An object as it is read when one thing in it is left out, or has no value."""
    changed = copy.deepcopy(item)
    at: object = changed
    for key in way[:-1]:
        at = at[key]  # type: ignore[index]
    if as_null and isinstance(at, dict):
        at[way[-1]] = None
    else:
        del at[way[-1]]  # type: ignore[attr-defined]
    read: Object = without_nulls(changed)
    return read


def told(objects: list[Object], number: int, way: Way, *, as_null: bool) -> str:
    """The traceback that comes of it; empty for none, or where the schemas have refused it before."""
    item = without(objects[number], way, as_null=as_null)
    try:
        checks.findings([*objects[:number], item, *objects[number + 1 :]], production=True, applying=True)
    except Exception as error:  # noqa: BLE001 - any at all is what is looked for
        if not violation(item, VERSIONS[-1]):
            return f"{name_of(item)}: {'.'.join(map(str, way))}: {error!r}"
    return ""


# What kustomize itself refuses to render without.
NEEDED = [("apiVersion",), ("kind",), ("metadata",), ("metadata", "name")]


@pytest.mark.parametrize("as_null", [False, True], ids=["dropped", "null"])
def test_what_lacks_something_is_told_in_findings(as_null: bool) -> None:
    objects = sound(PRODUCTION_OVERLAY)
    every = [(n, way) for n, item in enumerate(objects) for way in ways_into(item) if way not in NEEDED]
    # The same each time.
    sample = random.Random(as_null).sample(every, SAMPLE)
    assert [wrong for n, way in sample if (wrong := told(objects, n, way, as_null=as_null))] == []


HEADLESS = "Service epistream-headless"
ELSEWHERE = put(CRON, f"{JOB}/containers/0/args/1", "--address=epistream-headless.epistream.svc:7443")


@pytest.mark.parametrize(
    ("edit", "policies"),
    [
        (drop(HEADLESS, "/spec/ports"), {"monitors_find_a_port"}),
        (all_of(drop(HEADLESS, "/spec/ports"), ELSEWHERE), {"monitors_find_a_port", "addresses_lead_to_a_service"}),
        (drop(SET, f"{POD}/topologySpreadConstraints/0/labelSelector"), {"selectors_find_pods"}),
        (put(CLIENTS, "/spec/egress", None), set()),
    ],
    ids=["ports", "address", "labelSelector", "egress"],
)
def test_what_kubernetes_takes_without_a_field(edit: Edit, policies: set[str]) -> None:
    objects = copy.deepcopy(sound(OWN_CLUSTER))
    edit(objects)
    read = list(map(without_nulls, objects))
    assert checks.violations(read) == []
    assert {each.policy for each in checks.findings(read, production=True)} == policies


def test_a_policy_that_stumbles_is_told_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(_cluster: Cluster) -> Iterator[Finding]:
        yield None, "found before"
        raise KeyError("ports")

    monkeypatch.setitem(ALWAYS, "stumbles", stumbles)
    objects = sound(OWN_CLUSTER)
    expected = "the overlay: not checked, something in it is not as expected: KeyError('ports') [stumbles]"
    told = checks.check(objects)
    assert {expected, "the overlay: found before [stumbles]"} <= set(told)
    assert any("[image_is_your_own]" in each for each in told)
    with pytest.raises(KeyError):
        checks.findings(objects, production=True)


def test_settings_that_cannot_be_read_are_told_by_their_object() -> None:
    objects = copy.deepcopy(sound(OWN_CLUSTER))
    say('folder = "/data"', "folder =")(objects)
    with pytest.raises(ValueError, match=r"ConfigMap epistream-settings-\w+: settings.toml: "):
        checks.check(objects)
