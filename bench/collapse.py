"""Whom the collapse watch notices: loops of a model that learns from itself, people; and what consumers get.

On the sample data in ../shared/data, with the packaged encoder. Writes the plot of docs/gate.md, docs/collapse.png.
Names begin with the requirement's number, with a star where the specification calls the target a first bar:
docs/requirements.md.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import Figure, at_least, below, equal, report
from epistream.indexer import holding
from epistream.indexer.collapse import FLOOR_WINDOW, RAISED_BELOW, Alarm
from epistream.indexer.spectrum import ITEMS_MIN, Comparison, HumanWindow, drawn
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns_pb
from tests.support.knowing import NAMESPACE, commit, open_engine, submission
from tests.support.samples import (
    STREAMS,
    TRAJECTORIES,
    compared,
    each_once,
    places,
    require_samples,
    rows,
    shorter_half,
    values,
    window_of,
)
from tests.support.watched_samples import GENERATIONS, taken_for_a_model, watched_loop

PLOT: Final = Path(__file__).parents[1] / "docs" / "collapse.png"
SPLITS: Final = 100
_SPLIT_SOURCES: Final = ("crawl:wikipedia", "human_experts_truthfulqa")
"""Halves of the others are smaller than the smallest anchor window."""
_ANCHORS_MIN, _WATCHED_MIN = 64, 32
"""The smallest windows that a policy may have."""
_OFFERED: Final = 20_000
_AT_ONCE: Final = 100
_FLOOR: Final = 0.1
_SYNTHETIC: Final = 0.9
_NEVER: Final = 99
_VENDI: Final = 1
"""The place of VS_1 among the orders."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, default=PLOT)
    plot = parser.parse_args().plot
    require_samples()
    found = {regime: trajectory(regime) for regime in values(TRAJECTORIES, "regime")}
    draw(found, plot)
    return report("collapse", [*loops(found), *stored(found), *people(), *watched(), *by_chance(), *floor()])


def trajectory(regime: str) -> dict[int, Comparison]:
    """The generations of a loop against the people that it began with."""
    human = people_of(regime)
    found = {}
    for generation in sorted(set(values(TRAJECTORIES, "generation")) - {0}):
        one = compared(human, TRAJECTORIES, places(TRAJECTORIES, regime=regime, generation=generation))
        assert isinstance(one, Comparison)
        found[generation] = one
    return found


def people_of(regime: str) -> HumanWindow:
    """The people that a loop began with."""
    return window_of(TRAJECTORIES, each_once(TRAJECTORIES, places(TRAJECTORIES, regime=regime, generation=0)))


def loops(found: dict[str, dict[int, Comparison]]) -> list[Figure]:
    """When the alarm is raised, and the ratios. The sample has the generations 1, 3, 6 and 9."""
    figures = []
    for regime, generations in found.items():
        alarm, raised, on = Alarm(), _NEVER, []
        for generation, one in generations.items():
            alarm = alarm.after(one)
            raised = min(raised, generation) if alarm.on else raised
            on.append(alarm.on)
        figures.append(_raised(regime, raised))
        first, last = min(generations), max(generations)
        figures.extend(
            Figure(f"{regime}: ratio at generation {g}", generations[g].ratio[_VENDI], "") for g in (first, last)
        )
        supports = [one.support for one in generations.values()]
        human = people_of(regime)
        for generation in (first, last):
            own = places(TRAJECTORIES, regime=regime, generation=generation)
            plain = compared(human, TRAJECTORIES, own, by_length=False)
            assert isinstance(plain, Comparison)
            figures.append(Figure(f"{regime}: the same at {generation}, of any length", plain.ratio[_VENDI], ""))
        figures.append(Figure(f"{regime}: support, least", min(supports), ""))
        figures.append(Figure(f"{regime}: support, most", max(supports), ""))
        if regime == "replace":
            fall = generations[first].ratio[_VENDI] - generations[last].ratio[_VENDI]
            figures.append(at_least("R17* replace: fall of the ratio", fall, "", 0.10))
            stays = any(on) and all(on[on.index(True) :])
            figures.append(at_least("R17 replace: stays on from then", float(stays), "", 1))
    return figures


def _raised(name: str, generation: int) -> Figure:
    """R17 is about the loop that replaces."""
    told = f"{name}: raised at generation ({_NEVER}: never)"
    return below(f"R17 {told}", generation, "", 3) if name.startswith("replace") else Figure(told, generation, "")


def stored(found: dict[str, dict[int, Comparison]]) -> list[Figure]:
    """R19: what a store has that keeps all, of the texts by themselves, beside one that has the newest alone."""
    regime, figures, above = "accumulate", [], []
    human = people_of(regime)
    store = places(TRAJECTORIES, regime=regime, generation=0)
    for generation, replaced in found["replace"].items():
        store = [*store, *places(TRAJECTORIES, regime=regime, generation=generation)]
        one = compared(human, TRAJECTORIES, [store[at] for at in drawn(len(store), 1)])
        assert isinstance(one, Comparison)
        ratio = one.ratio[_VENDI]
        above.append(ratio > replaced.ratio[_VENDI])
        name = f"{regime}: the store of all texts at generation {generation}"
        last = generation == max(found["replace"])
        figures.append(at_least(f"R19* {name}", ratio, "", 0.6) if last else Figure(name, ratio, ""))
    return [
        *figures,
        equal("R19 the same above that of replace, generations", sum(above), f"of {len(above)}", len(above)),
    ]


def people() -> list[Figure]:
    """How often the alarm is raised where nothing is wrong."""
    sources = [p for p in values(STREAMS, "producer") if not p.startswith("model:")]
    figures = []
    for source in sources:
        everything = places(STREAMS, producer=source)
        half = len(everything) // 2
        if half < ITEMS_MIN:
            figures.append(Figure(f"{source}: too few to compare, halves of", half, "texts"))
            continue
        raised = 0
        for split in range(SPLITS):
            order = [everything[at] for at in drawn(len(everything), split)]
            found = compared(window_of(STREAMS, order[:half]), STREAMS, order[half : 2 * half])
            raised += Alarm().after(found).on
        figures.append(below(f"R18 {source}: raised in {SPLITS} splits of {half} texts", raised, "", 5.5))
        if half >= _ANCHORS_MIN:
            figures.extend(of_the_shorter(source, everything))
    crossed = [
        compared(window_of(STREAMS, places(STREAMS, producer=a)), STREAMS, places(STREAMS, producer=b))
        for a, b in itertools.permutations(sources, 2)
    ]
    alarms = [Alarm().after(one) for one in crossed]
    narrower = [one for one in crossed if isinstance(one, Comparison) and one.high[_VENDI] < RAISED_BELOW]
    figures.append(below("R18 raised by people of another source", sum(alarm.on for alarm in alarms), "pairs", 0.5))
    figures.append(Figure("of which drifted", sum(alarm.drifted for alarm in alarms), f"of {len(alarms)}"))
    figures.append(Figure("of which narrower", len(narrower), f"of {len(alarms)}"))
    figures.append(Figure("support of these, most", max((one.support for one in narrower), default=0.0), ""))
    models = [p for p in values(STREAMS, "producer") if p.startswith("model:")]
    human = [row for row in rows(STREAMS) if row["producer"] == "human_experts"]
    experts = places(STREAMS, producer="human_experts")
    window = window_of(STREAMS, experts, [str(row["pair_id"]) for row in human])
    for model in models:
        pairs = [str(row["pair_id"]) for row in rows(STREAMS) if row["producer"] == model]
        one = compared(window, STREAMS, places(STREAMS, producer=model), pairs)
        assert isinstance(one, Comparison)
        kind = "matched" if one.matched else "unmatched"
        figures.append(Figure(f"{model}: ratio, {one.items} {kind}", one.ratio[_VENDI], ""))
    return figures


def of_the_shorter(source: str, everything: list[int]) -> Iterator[Figure]:
    """Of short texts of people beside texts of people of all lengths: by length, and whatever their lengths."""
    shorter, others = shorter_half(STREAMS, everything)
    for by_length in (True, False):
        one = compared(window_of(STREAMS, others), STREAMS, shorter, by_length=by_length)
        assert isinstance(one, Comparison)
        how = f"{one.items} of these lengths" if one.same_lengths else f"{one.items} of any length"
        yield Figure(f"{source}: ratio of the shorter ones, {how}", one.ratio[_VENDI], "")


def watched() -> list[Figure]:
    """The same through the pipeline, where repetitions are merged, and the journal keeps the alarms."""
    figures = []
    for regime in values(TRAJECTORIES, "regime"):
        with tempfile.TemporaryDirectory() as folder:
            windows = watched_loop(Path(folder), regime)
        of_generations, store = windows["loop"][1::2], windows[""]
        raised = next((g for g, one in zip(GENERATIONS, of_generations, strict=True) if one.on), _NEVER)
        figures.append(_raised(f"{regime}, watched", raised))
        for generation, one in zip(GENERATIONS, of_generations, strict=True):
            figures.append(Figure(f"{regime}, watched: ratio at generation {generation}", one.ratios[_VENDI].ratio, ""))
        figures.append(Figure(f"{regime}, watched: near itself in the end", of_generations[-1].near_self, ""))
        ratio = store[-1].ratios[_VENDI].ratio
        figures.append(at_least(f"R19* {regime}, watched: the store in the end", ratio, "", 0.6))
    return figures


def by_chance() -> Iterator[Figure]:
    """People who are taken for a model, in one window as large as can be, and in two of the smallest of a policy."""
    for source in _SPLIT_SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            whole = [taken_for_a_model(Path(folder, str(n)), source, n) for n in range(SPLITS)]
        with tempfile.TemporaryDirectory() as folder:
            small = [
                taken_for_a_model(Path(folder, str(n)), source, n, anchor_items=_ANCHORS_MIN, watch_items=_WATCHED_MIN)
                for n in range(SPLITS)
            ]
        name = f"{source}, taken for a model: raised in {SPLITS} splits"
        yield below(f"R18 {name}", sum(windows[-1].on for windows in whole), "", 5.5)
        raised = sum(any(one.on for one in windows) for windows in small)
        yield Figure(f"{name}, {_ANCHORS_MIN} anchors, two windows of {_WATCHED_MIN}", raised, "")


def floor() -> list[Figure]:
    """What consumers get at nine synthetic items in ten, through the pipeline."""
    synthetic = np.random.default_rng(1).random(_OFFERED) < _SYNTHETIC
    waited: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(Path(folder))
        # How it looks is not asked: the vectors are made up, and what is held for that is not lost.
        policy = ns_pb.Policy(near_duplicate_threshold=1.0, guard=ns_pb.GUARD_MEASURE)
        engine.namespaces.update_policy(ns_pb.UpdatePolicyRequest(name=NAMESPACE, policy=policy))
        for start in range(0, _OFFERED, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, _OFFERED))
            commit(engine, *(_offered(number, synthetic=bool(synthetic[number])) for number in numbers))
            waited.append(engine.namespaces.state(NAMESPACE).standing.put_off.total())
        with engine.store.reader() as catalog:
            origins = catalog.newest_origins(1, _OFFERED)
            waiting = holding.put_off(catalog, 1).total()
        engine.close()
    real = np.array([origin != pb.ORIGIN_SYNTHETIC for origin in origins])
    shares = np.convolve(real, np.ones(FLOOR_WINDOW), "valid") / FLOOR_WINDOW
    return [
        at_least(f"R22 least real share in {FLOOR_WINDOW} changes of the feed", float(shares.min()), "", _FLOOR),
        equal("R22 items lost", _OFFERED - len(origins) - waiting, f"of {_OFFERED}", 0),
        Figure("deferred at one time, median", statistics.median(waited), ""),
        Figure("deferred at one time, at most", max(waited), ""),
    ]


def _offered(number: int, *, synthetic: bool) -> pb.Submission:
    origin = pb.ORIGIN_SYNTHETIC if synthetic else pb.ORIGIN_EXPERT
    return submission(f"{number}: so it is.", id=f"s-{number}", origin=origin)


def draw(found: dict[str, dict[int, Comparison]], path: Path) -> None:
    """The ratio of VS_1 by generation, with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots()
    for shift, (regime, generations) in enumerate(found.items()):
        at = [generation + (shift - 1) / 8 for generation in generations]
        ratios = [one.ratio[_VENDI] for one in generations.values()]
        low = [one.ratio[_VENDI] - one.low[_VENDI] for one in generations.values()]
        high = [one.high[_VENDI] - one.ratio[_VENDI] for one in generations.values()]
        axes.errorbar([0, *at], [1, *ratios], [[0, *low], [0, *high]], marker="o", capsize=3, label=regime)
    axes.axhline(RAISED_BELOW, linestyle="--", color="grey", label="raised when the interval is below")
    axes.set(xlabel="generation", ylabel="VS₁ over people's VS₁, equal n and lengths", ylim=(0.5, 1.1))
    axes.legend()
    picture.savefig(path, metadata={"Software": ""})


if __name__ == "__main__":
    sys.exit(main())
