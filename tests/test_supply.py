"""What `make supply` and `make audit-offline` say of what ships."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support import advisories, bill
from tests.support.locked import REQUIREMENTS, SHIPPED, Locked, locked

ONE: Final = Locked("one-package", "1.0", "", ("aa", "bb"))
OTHER: Final = Locked("other", "2.0", "", ("cc",))


def component(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "version": version, "purl": f"pkg:pypi/{name.lower()}@{version}"}


def test_every_line_of_the_lock_is_read_with_its_hashes() -> None:
    text = "".join((REQUIREMENTS / name).read_text() for name in SHIPPED)
    assert {(one.name, one.version) for one in locked()} == set(re.findall(r"^([^\s=]+)==(\S+)", text, re.MULTILINE))
    assert {each for one in locked() for each in one.hashes} == set(re.findall(r"--hash=sha256:(\w{64})\b", text))
    assert all(one.hashes for one in locked())


def test_a_marker_says_where_a_package_is_installed() -> None:
    assert ONE.here
    assert Locked("a", "1", "python_version >= '3.11'", ()).here
    assert not Locked("a", "1", "python_version < '3.11'", ()).here


def test_a_bill_gets_the_hashes_of_what_is_locked() -> None:
    made = {"components": [component("One_Package", "1.0"), component("other", "2.0")]}
    assert bill.complete(made, [ONE, OTHER]) == []
    (files,) = made["components"][0]["externalReferences"]
    assert [(each["alg"], each["content"]) for each in files["hashes"]] == [("SHA-256", "aa"), ("SHA-256", "bb")]


@pytest.mark.parametrize(
    ("components", "packages", "wrong"),
    [
        ([component("other", "2.0")], [ONE, OTHER], "one-package==1.0 is locked, but not in the bill"),
        ([component("other", "2.1")], [OTHER], "other==2.1 is in the bill, but not locked"),
        ([component("other", "2.0")], [Locked("other", "2.0", "", ())], "other==2.0 is locked without a hash"),
    ],
    ids=("missing", "of another version", "without a hash"),
)
def test_a_bill_that_is_not_of_what_is_locked_is_refused(
    components: list[dict[str, Any]], packages: list[Locked], wrong: str
) -> None:
    assert wrong in bill.complete({"components": components}, packages)


def test_the_file_with_the_bill_is_completed_and_what_is_wrong_with_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bill.json"
    here = [component(one.name, one.version) for one in locked() if one.here]
    path.write_text(json.dumps({"components": here}))
    assert bill.main(path) == 0
    assert all(each["externalReferences"] for each in json.loads(path.read_text())["components"])
    path.write_text(json.dumps({"components": here[1:]}))
    assert bill.main(path) == 1
    assert f"{here[0]['name']}=={here[0]['version']} is locked, but not in the bill" in capsys.readouterr().err


def advisory(
    *events: dict[str, str], kind: str = "ECOSYSTEM", name: str = "One.Package", **more: Any
) -> dict[str, Any]:
    part = {"package": {"name": name}, "ranges": [{"type": kind, "events": list(events)}]}
    return {"id": "PYSEC-1", "affected": [part]} | more


FROM_THE_FIRST: Final = {"introduced": "0"}


@pytest.mark.parametrize(
    ("said", "affected"),
    [
        (advisory(FROM_THE_FIRST), True),
        (advisory({"introduced": "1.0"}, {"fixed": "1.1"}), True),
        (advisory(FROM_THE_FIRST, {"fixed": "1.0"}), False),
        (advisory({"introduced": "1.0.1"}), False),
        (advisory(FROM_THE_FIRST, {"last_affected": "1.0"}), True),
        (advisory(FROM_THE_FIRST, {"last_affected": "0.9"}), False),
        (advisory({"introduced": "0.10"}, FROM_THE_FIRST, {"fixed": "0.9"}), True),
        (advisory(FROM_THE_FIRST, kind="GIT"), False),
        (advisory(FROM_THE_FIRST, name="other"), False),
        (advisory(FROM_THE_FIRST, withdrawn="2026-01-01T00:00:00Z"), False),
        ({"id": "PYSEC-1", "affected": [{"package": {"name": "one-package"}, "versions": ["1.0"]}]}, True),
    ],
)
def test_an_advisory_holds_for_the_versions_that_it_names(said: dict[str, Any], affected: bool) -> None:
    assert advisories.affects(said, "one-package", "1.0") is affected


def test_what_is_affected_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advisories.main(tmp_path) == 2
    package = locked()[0]
    folder = tmp_path / "vulns" / package.name
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(json.dumps(advisory(FROM_THE_FIRST, name=package.name)))  # JSON is YAML
    assert advisories.main(tmp_path) == 1
    assert f"{package.name}=={package.version}: PYSEC-1" in capsys.readouterr().out
    (folder / "a.yaml").write_text(json.dumps(advisory(FROM_THE_FIRST, {"fixed": package.version}, name=package.name)))
    assert advisories.main(tmp_path) == 0
