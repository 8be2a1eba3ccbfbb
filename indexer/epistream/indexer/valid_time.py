"""Which version of an item held when in the world: questions over the view `versions`. See `catalog`.

What is asked here is `valid_from`, which producers say (docs/decisions/0023-valid-time.md). What was current when is
`Catalog.version_at`.
"""

from typing import Final

from epistream.indexer.catalog import OF_ITEM, Catalog
from epistream.v1 import knowledge_pb2 as pb

_BEFORE_ALL: Final = -(2**62)
"""Microseconds: before any time that a submission may name."""

_KNOWN: Final = (
    "WITH known AS (SELECT version, revision, kind, valid_us FROM versions WHERE namespace = :n"  # noqa: S608 - constants
    f" AND revision IN (SELECT revision FROM ({OF_ITEM})) AND revision <= :at)"
)
"""The versions of an item that were known at a revision."""


def version_held(catalog: Catalog, namespace: int, item_id: str, at: int, valid_us: int) -> int | None:
    """The revision of the version of an item that held at a time in the world, as was known at a revision.

    As `AsOf.valid_time` says in the contract; None also where the item was not in answers then.
    """
    if catalog.version_at(namespace, item_id, at) is None:
        return None
    row: int | None = catalog.connection.execute(
        f"{_KNOWN} SELECT revision FROM known"  # noqa: S608 - constants
        " WHERE revision >= (SELECT IFNULL(MAX(revision), 0) FROM known WHERE valid_us IS NULL)"
        f" AND kind <> {pb.CHANGE_KIND_RETRACTED} AND (valid_us IS NULL OR valid_us <= :valid)"
        " ORDER BY valid_us DESC, revision DESC LIMIT 1",
        {"n": namespace, "i": item_id, "after": 0, "at": at, "valid": valid_us},
    ).get
    return row


def newest_from(catalog: Catalog, namespace: int, item_id: str, valid_us: int) -> int | None:
    """The revision of the newest version of an item that holds from a time on, to the microsecond.

    None also where a version without such a time, or a retraction, came since: that one replaced all before it.
    """
    row: int | None = catalog.connection.execute(
        "SELECT d.revision FROM versions d INDEXED BY versions_by_valid_time WHERE d.namespace = :n AND d.item_id = :i"
        " AND d.valid_us = :valid AND NOT EXISTS (SELECT 1 FROM versions v INDEXED BY versions_by_item"
        " WHERE v.namespace = :n AND v.item_id = :i AND v.version > 1 AND v.version > d.version"
        " AND v.valid_us IS NULL) ORDER BY d.revision DESC LIMIT 1",
        {"n": namespace, "i": item_id, "valid": valid_us},
    ).get
    return row


def versions(catalog: Catalog, namespace: int, item_id: str, at: int, after_version: int, limit: int) -> list[int]:
    """As `Catalog.versions`, those known at a revision, in the order of `valid_from`; those without it first."""
    place = f"IFNULL(valid_us, {_BEFORE_ALL}), version"
    rows = catalog.connection.execute(
        f"{_KNOWN} SELECT revision FROM known WHERE :v = 0"  # noqa: S608 - constants
        f" OR ({place}) > (SELECT {place} FROM known WHERE version = :v) ORDER BY {place} LIMIT :limit",
        {"n": namespace, "i": item_id, "after": 0, "at": at, "v": after_version, "limit": limit},
    )
    return [revision for (revision,) in rows]
