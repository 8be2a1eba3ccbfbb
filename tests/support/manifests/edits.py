"""Ways to break manifests: each makes one change to the objects of an overlay that is sound."""

import fnmatch
from collections.abc import Callable
from typing import Any

from tests.support.manifests.cluster import Object, name_of

Edit = Callable[[list[Object]], None]


def put(where: str, pointer: str, value: object) -> Edit:
    """Set a field (a JSON pointer) of the objects that `where` names: `Kind`, or `Kind name` with `*` for any rest."""

    def edit(objects: list[Object]) -> None:
        for item in _chosen(objects, where):
            parent, key = _parent(item, pointer)
            if isinstance(parent, list) and key == len(parent):
                parent.append(value)
            else:
                parent[key] = value

    return edit


def drop(where: str, pointer: str) -> Edit:
    """Take a field out."""

    def edit(objects: list[Object]) -> None:
        for item in _chosen(objects, where):
            parent, key = _parent(item, pointer)
            del parent[key]

    return edit


def remove(where: str) -> Edit:
    """Take whole objects out."""

    def edit(objects: list[Object]) -> None:
        for item in _chosen(objects, where):
            objects.remove(item)

    return edit


def add(item: Object) -> Edit:
    """Put one more object in."""
    return lambda objects: objects.append(item)


def all_of(*edits: Edit) -> Edit:
    """One change after the other."""

    def edit(objects: list[Object]) -> None:
        for each in edits:
            each(objects)

    return edit


def say(old: str, new: str) -> Edit:
    """Change the text of the settings."""

    def edit(objects: list[Object]) -> None:
        for item in _chosen(objects, "ConfigMap epistream-settings-*"):
            text = item["data"]["settings.toml"]
            assert old in text
            item["data"]["settings.toml"] = text.replace(old, new)

    return edit


def _chosen(objects: list[Object], where: str) -> list[Object]:
    chosen = [item for item in objects if item["kind"] == where or fnmatch.fnmatchcase(name_of(item), where)]
    assert chosen, where
    return chosen


def _parent(item: Object, pointer: str) -> tuple[Any, Any]:
    """What holds the field, and its key there; `-` is the end of a list."""
    *way, last = (part.replace("~1", "/") for part in pointer.removeprefix("/").split("/"))
    at: Any = item
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    if isinstance(at, list):
        return at, len(at) if last == "-" else int(last)
    return at, last
