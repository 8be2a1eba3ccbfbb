"""The sixteen cells: the table says what the docstrings say, and each cell is computed on what works publish."""

import math
import re
from itertools import pairwise, product
from typing import Final

import numpy as np
import pytest

from epistream.indexer.signals import CELLS, Figure, Signal, Window, measure
from epistream.v1 import knowledge_pb2 as pb
from tests.support.cells import realistic, synthetic_text
from tests.support.samples import needs_samples
from tests.support.signals_reference import BEGIN, DOCUMENT, VALUES, formula, reference, shown, values
from tests.support.windows import change, figures, part, window

SIGNALS: Final = [signal for cell in CELLS for signal in cell.signals]


def test_there_are_sixteen_cells_and_no_two_signals_of_a_name() -> None:
    assert len({(cell.origin, cell.modality) for cell in CELLS}) == 16
    stages = {pb.ORIGIN_CRAWLED: "I", pb.ORIGIN_EXPERT: "II", pb.ORIGIN_SYNTHETIC: "III", pb.ORIGIN_COLLABORATIVE: "IV"}
    assert all(cell.stage == stages[cell.origin] for cell in CELLS)
    assert len({signal.name for signal in SIGNALS}) == len(SIGNALS)


def is_formula(text: str) -> bool:
    """Whether it relates quantities to each other, or says what is counted; words alone do not."""
    return re.search(r"[=/|Σ<>]|cos\(|percentile of", text) is not None


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_docstring_says_the_formula(signal: Signal) -> None:
    assert is_formula(formula(signal)), f"{signal.name}: no indented line of its docstring is a formula"


def test_prose_is_no_formula() -> None:
    def prose(window: Window) -> Figure:
        """How much of x is y.

        Of the newest 500. Range 0 to 1. Unit: share. Source: own.
        """
        raise NotImplementedError

    def indented(window: Window) -> Figure:
        """How much of x is y.

            the share of x that is y

        Range 0 to 1. Unit: share. Source: own.
        """
        raise NotImplementedError

    for measured in (prose, indented):
        assert not is_formula(formula(Signal("x", measured, 0, 1, "share", "low")))


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.name)
def test_a_docstring_says_range_unit_and_source_as_the_table_has_them(signal: Signal) -> None:
    assert signal.measure.__name__ == signal.name
    told = " ".join((signal.measure.__doc__ or "").split())
    assert f"Range {shown(signal.low)} to {shown(signal.high)}. Unit: {signal.unit}" in told
    assert re.search(r"Source: \S.*\.$", told)


def test_the_document_is_what_the_table_makes() -> None:
    assert DOCUMENT.read_text().endswith(reference()), "run python -m tests.support.signals_reference"


@needs_samples
def test_the_values_in_the_document_are_what_the_code_computes() -> None:
    written = DOCUMENT.read_text().partition(VALUES)[2].partition(BEGIN)[0].strip().splitlines()
    made = values().strip().splitlines()
    assert len(written) == len(made), "run python -m tests.support.signals_reference"
    for told, expected in zip(written, made, strict=True):
        (*before, value, items, of), (*wanted, computed, count, source) = cells(told), cells(expected)
        assert (before, items, of) == (wanted, count, source), "run python -m tests.support.signals_reference"
        if value != computed:  # another machine may round its last digit the other way
            assert float(value) == pytest.approx(float(computed), rel=0.011, abs=1e-6), told


def cells(row: str) -> list[str]:
    return [told.strip() for told in row.strip("|").split("|")]


def test_r33_an_empty_window_has_a_reason_for_every_signal_and_no_value() -> None:
    found = list(measure(window()))
    assert {signal.name for _, signal, _ in found} == {signal.name for signal in SIGNALS}
    for _, _, figure in found:
        assert figure.value is None
        assert figure.missing


def test_r33_items_without_vectors_words_media_or_feedback_have_no_figure_that_passes() -> None:
    bare = [
        change(f"{origin}-{modality}-{n}", "…", origin, modality)
        for origin, modality in product(pb.Origin.values()[1:], pb.Modality.values()[1:])
        for n in range(3)
    ]
    for _, signal, figure in measure(window(*bare)):
        assert (figure.value is None) == bool(figure.missing), signal.name
    valued = {signal.name for _, signal, figure in measure(window(*bare)) if figure.value is not None}
    # What these can be told of without a vector, a word or a judgement, and what their being so bare shows.
    assert valued == {
        "filtered_share",
        "generic_alt",
        "has_dynamics",
        "unverified_share",
        "completeness",
    }


@needs_samples
@pytest.mark.parametrize("name", [cell.name for cell in CELLS])
def test_a_cell_is_computed_on_real_or_realistic_input_within_its_range(name: str) -> None:
    ranges = {signal.name: (signal.low, signal.high) for cell in CELLS for signal in cell.signals}
    for signal, told in realistic(name).items():
        for figure in told:
            print(f"{name}: {signal} {_told(figure)}")
            assert figure.value is not None, figure.missing
            low, high = ranges[signal]
            assert math.isfinite(figure.value)
            assert low <= figure.value <= high
            assert figure.items > 0
            shares = [share for _, share in figure.parts]
            if signal not in ("rater_agreement", "alpha"):  # which name those that agree least
                assert all(one >= other for one, other in pairwise(shares)) or signal == "beyond_unit_tests"


@needs_samples
def test_the_same_window_has_the_same_figures() -> None:
    assert list(measure(synthetic_text())) == list(measure(synthetic_text()))


def _told(figure: Figure) -> str:
    interval = f" ({figure.low:.3f} to {figure.high:.3f})" if figure.low is not None and figure.high is not None else ""
    return f"{figure.value:.4g}{interval} of {figure.items} {figure.parts[:3]}"


def test_parts_of_a_caption_are_in_one_video() -> None:
    other = change(
        "x", "A cup.", pb.ORIGIN_SYNTHETIC, pb.MODALITY_VIDEO, parents=["v"], media=[part("other.mp4", 0, 1)]
    )
    whole = change("v", "A cup.", pb.ORIGIN_SYNTHETIC, pb.MODALITY_VIDEO, media=[part("v.mp4")])
    assert figures(window(whole, other, vectors=np.eye(2)), "III video")["coherence"][0].value is None
