"""What there is to say about a work, in words."""

from typing import Final

from epistream.clients.sources.work import STAGES, Work
from epistream.v1 import knowledge_pb2 as pb

BRIEF: Final = ("name", "stage", "modality", "origin", "read from", "licence", "published")
"""The columns that fit on a line of a terminal."""
COLUMNS: Final = (
    "name",
    "work",
    "stage",
    "modality",
    "origin",
    "read from",
    "record",
    "in details alone",
    "licence",
    "not published",
)


def brief(work: Work) -> tuple[str, ...]:
    """The cells of the work under BRIEF."""
    cells = dict(zip(COLUMNS, row(work), strict=True))
    nothing = work.unpublished.startswith("all of it")
    cells |= {"licence": work.licence or "varies", "published": "no" if nothing else "in part"}
    if not work.unpublished:
        cells["published"] = "yes"
    return tuple(cells[column] for column in BRIEF)


def row(work: Work) -> tuple[str, ...]:
    """The cells of the work under COLUMNS."""
    return (
        work.name,
        work.title,
        work.stage,
        modality_name(work),
        origin_name(work),
        ", ".join(kind.name for kind in work.formats),
        work.published,
        work.in_details or "nothing",
        work.licence or "of each record, or unknown",
        work.unpublished or "nothing is kept back",
    )


def described(work: Work) -> list[tuple[str, str]]:
    """The same with its names, and what the adapter does."""
    cells = dict(zip(COLUMNS, row(work), strict=True))
    cells["stage"] = f"{work.stage}, {STAGES[work.stage]}"
    cells["read from"] = ", ".join(f"{kind.name} ({kind.files or 'a folder for each record'})" for kind in work.formats)
    return [*cells.items(), ("becomes", " ".join((work.adapter.__doc__ or "").split()))]


def modality_name(work: Work) -> str:
    """Such as `TEXT`."""
    return pb.Modality.Name(work.modality).removeprefix("MODALITY_")


def origin_name(work: Work) -> str:
    """Such as `EXPERT`."""
    return pb.Origin.Name(work.origin).removeprefix("ORIGIN_")
