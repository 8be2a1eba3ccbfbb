"""The table of signals: of each cell, stage by modality, its bottleneck and what shows it.

from epistream.indexer.signals import measure
for cell, found in measure(window): ...
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from epistream.indexer.signals import code, disagreement, image, preference, text, verified, video
from epistream.indexer.signals.figure import Figure, missing
from epistream.indexer.signals.window import Window
from epistream.v1 import knowledge_pb2 as pb

Measure: TypeAlias = Callable[[Window], Figure | Iterator[Figure]]
"""One figure of everybody's items, or one of each producer's."""

_ANY: Final = math.inf


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal. Its formula is in the docstring of `measure`."""

    name: str
    measure: Measure
    low: float
    """The least that it can be."""
    high: float
    """The most; infinite where nothing bounds it."""
    unit: str
    worse: Literal["low", "high"]
    """Which end shows the bottleneck."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A stage and a modality, with what hinders knowledge of that kind."""

    stage: str
    """I crawled, II from experts, III synthetic, IV collaborative."""
    origin: pb.Origin.ValueType
    modality: pb.Modality.ValueType
    bottleneck: str
    signals: tuple[Signal, ...]

    @property
    def name(self) -> str:
        """Such as `I text`."""
        return f"{self.stage} {pb.Modality.Name(self.modality).removeprefix('MODALITY_').lower()}"


CELLS: Final = (
    Cell(
        "I",
        pb.ORIGIN_CRAWLED,
        pb.MODALITY_TEXT,
        "cognitive mediocrity, hallucination",
        (
            Signal("relative_gain", text.relative_gain, 0, 1, "share", "low"),
            Signal("unsupported_numbers", text.unsupported_numbers, 0, 1, "share", "high"),
            Signal("uncorroborated_risk", text.uncorroborated_risk, 0, 1, "share", "high"),
            Signal("corroboration", text.corroboration, 0, _ANY, "producers", "low"),
        ),
    ),
    Cell(
        "I",
        pb.ORIGIN_CRAWLED,
        pb.MODALITY_CODE,
        "logical dilution, no context of the project",
        (
            Signal("parse_share", code.parse_share, 0, 1, "share", "low"),
            Signal("filtered_share", code.filtered_share, 0, 1, "share", "high"),
            Signal("logic_density", code.logic_density, 0, _ANY, "nodes a line", "low"),
            Signal("boilerplate", code.boilerplate, 0, 1, "share", "high"),
            Signal("context", code.context, 0, 1, "share", "low"),
            Signal("self_contained", code.self_contained, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "I",
        pb.ORIGIN_CRAWLED,
        pb.MODALITY_IMAGE,
        "weak alternative texts",
        (
            Signal("alignment", image.alignment, -1, 1, "cosine", "low"),
            Signal("clip_score", image.clip_score, 0, 2.5, "CLIPScore", "low"),
            Signal("weak_alignment", image.weak_alignment, 0, 1, "share", "high"),
            Signal("generic_alt", image.generic_alt, 0, 1, "share", "high"),
            Signal("text_alignment", image.text_alignment, -1, 1, "cosine", "low"),
            Signal("text_coverage", image.text_coverage, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "I",
        pb.ORIGIN_CRAWLED,
        pb.MODALITY_VIDEO,
        "cut off from dynamics",
        (
            Signal("motion", video.motion, 0, 1, "share", "low"),
            Signal("segment_coverage", video.segment_coverage, 0, 1, "share", "low"),
            Signal("has_dynamics", video.has_dynamics, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "II",
        pb.ORIGIN_EXPERT,
        pb.MODALITY_TEXT,
        "subjective, biased to what is long",
        (
            Signal("long_win_share", preference.long_win_share, 0, 1, "share", "high"),
            Signal(
                "length_coefficient",
                preference.length_coefficient,
                -_ANY,
                _ANY,
                "log odds per standard deviation",
                "high",
            ),
            Signal("rater_agreement", preference.rater_agreement, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "II",
        pb.ORIGIN_EXPERT,
        pb.MODALITY_CODE,
        "the ceiling of what experts can do",
        (
            Signal("gain_per_record", verified.gain_per_record, 0, 0.347, "nats", "low"),
            Signal("gain_per_hour", verified.gain_per_hour, 0, _ANY, "nats an hour", "low"),
            Signal("leverage", verified.leverage, 0, _ANY, "programs", "low"),
            Signal("queue_age_p95", verified.queue_age_p95, 0, _ANY, "s", "high"),
        ),
    ),
    Cell(
        "II",
        pb.ORIGIN_EXPERT,
        pb.MODALITY_IMAGE,
        "vague about space",
        (Signal("grounded", image.grounded, 0, 1, "share", "low"),),
    ),
    Cell(
        "II",
        pb.ORIGIN_EXPERT,
        pb.MODALITY_VIDEO,
        "what labelling costs",
        (
            Signal("label_density", video.label_density, 0, 1, "share", "low"),
            Signal("label_gap_p95", video.label_gap_p95, 0, _ANY, "s", "high"),
            Signal("interpolated_share", video.interpolated_share, 0, 1, "share", "high"),
        ),
    ),
    Cell(
        "III",
        pb.ORIGIN_SYNTHETIC,
        pb.MODALITY_TEXT,
        "homogeneous, no shades of emotion",
        (
            Signal("vendi_ratio", text.vendi_ratio, 0, _ANY, "ratio", "low"),
            Signal("rke_ratio", text.rke_ratio, 0, _ANY, "ratio", "low"),
            Signal("vendi_inf_ratio", text.vendi_inf_ratio, 0, _ANY, "ratio", "low"),
            Signal("vendi_slope", text.vendi_slope, -1, _ANY, "per window", "low"),
            Signal("near_self", text.near_self, 0, 1, "share", "high"),
            Signal("distinct_3", text.distinct_3, 0, 1, "share", "low"),
            Signal("emotions", text.emotions, 0, _ANY, "ratio", "low"),
        ),
    ),
    Cell(
        "III",
        pb.ORIGIN_SYNTHETIC,
        pb.MODALITY_CODE,
        "nobody runs it",
        (
            Signal("unverified_share", verified.unverified_share, 0, 1, "share", "high"),
            Signal("mutation_kill", verified.mutation_kill, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "III",
        pb.ORIGIN_SYNTHETIC,
        pb.MODALITY_IMAGE,
        "hallucination that is inherited",
        (
            Signal("invented_objects", image.invented_objects, 0, 1, "share", "high"),
            Signal("generation", image.generation, 1, _ANY, "generations", "high"),
            Signal("judged_correct", image.judged_correct, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "III",
        pb.ORIGIN_SYNTHETIC,
        pb.MODALITY_VIDEO,
        "no physics",
        (
            Signal("coherence", video.coherence, -1, 1, "cosine", "low"),
            Signal("drift", video.drift, -2, 2, "cosine a segment", "low"),
            Signal("entity_persistence", video.entity_persistence, 0, 1, "Jaccard", "low"),
            Signal("contradictions", video.contradictions, 0, 1, "share", "high"),
            Signal("frozen_share", video.frozen_share, 0, 1, "share", "high"),
            Signal("physical_share", video.physical_share, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "IV",
        pb.ORIGIN_COLLABORATIVE,
        pb.MODALITY_TEXT,
        "experts contradict each other",
        (
            Signal("alpha", disagreement.alpha, -1, 1, "alpha", "low"),
            Signal("vote_entropy", disagreement.vote_entropy, 0, 1, "share of the largest possible", "high"),
            Signal("conflict_age_p95", disagreement.conflict_age_p95, 0, _ANY, "s", "high"),
            Signal("conflicted_share", disagreement.conflicted_share, 0, 1, "share", "high"),
        ),
    ),
    Cell(
        "IV",
        pb.ORIGIN_COLLABORATIVE,
        pb.MODALITY_CODE,
        "a vacuum over long ranges",
        (
            Signal("span", code.span, 1, _ANY, "modules", "low"),
            Signal("beyond_unit_tests", code.beyond_unit_tests, 0, 1, "share", "low"),
            Signal("regression_survival", verified.regression_survival, 0, 1, "share", "low"),
        ),
    ),
    Cell(
        "IV",
        pb.ORIGIN_COLLABORATIVE,
        pb.MODALITY_IMAGE,
        "one taste for all",
        (
            Signal("style_concentration", image.style_concentration, 0, 1, "share squared", "high"),
            Signal("top_style_share", image.top_style_share, 0, 1, "share", "high"),
            Signal("win_diversity", image.win_diversity, 0, _ANY, "ratio", "low"),
        ),
    ),
    Cell(
        "IV",
        pb.ORIGIN_COLLABORATIVE,
        pb.MODALITY_VIDEO,
        "interactions without labels",
        (Signal("completeness", video.completeness, 0, 1, "share", "low"),),
    ),
)
"""The sixteen cells, by stage, then by modality."""


def measure(window: Window) -> Iterator[tuple[Cell, Signal, Figure]]:
    """Every signal of every cell, in the order of the table; of some there is one for each producer.

    The same window has the same figures, on the same kind of machine. About a second for 10,000 records of 384
    dimensions (`make bench-signals`).
    """
    for cell in CELLS:
        for signal in cell.signals:
            found = signal.measure(window)
            figures = [found] if isinstance(found, Figure) else list(found)
            nothing = missing(f"no item of {cell.name} in the window that this can be told of")
            yield from ((cell, signal, figure) for figure in figures or [nothing])
