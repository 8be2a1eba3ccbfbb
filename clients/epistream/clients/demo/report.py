"""What the demonstration prints, and what it checks."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table

from epistream.clients.cli.show import outcome_colour, outcome_name, receipt_text
from epistream.clients.cli.words import words
from epistream.clients.demo.variants import Kind, Variant
from epistream.v1 import knowledge_pb2 as pb

_OUTCOMES = (pb.OUTCOME_ADMITTED, pb.OUTCOME_REVISED, pb.OUTCOME_MERGED, pb.OUTCOME_HELD, pb.OUTCOME_REFUSED)


@dataclass(slots=True)
class Report:
    """Prints the story and remembers what was not as it should be."""

    console: Console
    steps: int = 0
    passed: int = 0
    failed: list[str] = field(default_factory=list)

    def step(self, title: str) -> None:
        """Begins a step."""
        self.steps += 1
        self.console.print()
        self.console.rule(words(f"{self.steps}. {title}", "bold"), align="left")

    def say(self, text: str, style: str | None = None) -> None:
        """A line of the story."""
        self.console.print(words(text, style or ""))

    def check(self, claim: str, holds: bool, otherwise: str = "") -> None:  # noqa: FBT001 -- reads as `check(claim, condition)`
        """A line that says whether `claim` holds; `otherwise` tells more where it does not."""
        if holds:
            self.passed += 1
            self.console.print(words(f"✓ {claim}", "green"))
        else:
            text = f"{claim}: {otherwise}" if otherwise else claim
            self.failed.append(text)
            self.console.print(words(f"✗ not so: {text}", "bold red"))

    def outcomes(self, what: str, receipts: Iterable[pb.Receipt]) -> None:
        """How many had which outcome, and why."""
        table = Table(title=f"What became of {what}", title_justify="left", show_edge=False, pad_edge=False)
        for column in ("outcome", "reason", "submissions"):
            table.add_column(column, justify="right" if column == "submissions" else "left")
        counts = Counter((receipt.outcome, receipt.reason) for receipt in receipts)
        for (outcome, reason), count in sorted(counts.items()):
            name = words(outcome_name(outcome), outcome_colour(outcome))
            table.add_row(name, pb.Reason.Name(reason).removeprefix("REASON_"), str(count))
        self.console.print(table)

    def confusion(self, variants: Sequence[Variant], receipts: Sequence[pb.Receipt]) -> None:
        """What was expected of each kind of variant, and what became of it."""
        table = Table(title="Expected and decided", title_justify="left", show_edge=False, pad_edge=False)
        for column in ("variant", "made by", "expected", *map(outcome_name, _OUTCOMES), "as expected"):
            table.add_column(column, justify="left" if column in ("variant", "made by", "expected") else "right")
        decided = Counter((v.kind, v.how, r.outcome) for v, r in zip(variants, receipts, strict=True))
        for kind, how in dict.fromkeys((v.kind, v.how) for v in variants):
            counts = [decided[kind, how, outcome] for outcome in _OUTCOMES]
            expected = Variant(kind, how, "", "", "").expected
            right = decided[kind, how, expected]
            cells = [
                words(str(count) if count else "·", _cell_style(outcome, expected, count))
                for outcome, count in zip(_OUTCOMES, counts, strict=True)
            ]
            table.add_row(kind.value, how, outcome_name(expected), *cells, f"{right} of {sum(counts)}")
        self.console.print(table)

    def example(self, variant: Variant, original: str, receipt: pb.Receipt) -> None:
        """A variant beside its original, and the decision on it."""
        lines = [words(f"known    {original}", "dim"), words(f"variant  {variant.text}")]
        decision = words(f"         {receipt_text(receipt)}", outcome_colour(receipt.outcome))
        self.console.print(
            Panel(Group(*lines, decision), title=f"{variant.kind.value}: {variant.how}", title_align="left")
        )

    def summary(self) -> bool:
        """The end of the story; whether all was as it should be."""
        self.console.print()
        if not self.failed:
            self.console.print(words(f"All {self.passed} checks passed.", "bold green"))
            return True
        self.console.print(words(f"{len(self.failed)} of {self.passed + len(self.failed)} checks failed:", "bold red"))
        for text in self.failed:
            self.console.print(words(f"  ✗ {text}", "red"))
        return False


def examples(variants: Iterable[Variant], receipts: Iterable[pb.Receipt]) -> list[tuple[Variant, pb.Receipt]]:
    """One variant of each kind and outcome, those first that were decided as expected."""
    found: dict[tuple[Kind, int], tuple[Variant, pb.Receipt]] = {}
    for variant, receipt in zip(variants, receipts, strict=True):
        found.setdefault((variant.kind, receipt.outcome), (variant, receipt))
    return sorted(found.values(), key=lambda pair: pair[0].expected != pair[1].outcome)


def those(
    variants: Iterable[Variant], receipts: Iterable[pb.Receipt], which: Callable[[Variant, pb.Receipt], bool]
) -> list[Variant]:
    """The variants that, with their receipts, are such as `which` says."""
    return [variant for variant, receipt in zip(variants, receipts, strict=True) if which(variant, receipt)]


def _cell_style(outcome: int, expected: int, count: int) -> str:
    if not count:
        return "dim"
    return "green" if outcome == expected else "yellow"
