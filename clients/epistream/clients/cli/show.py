"""What the commands print: protobuf's JSON form for programs, tables and panels for people.

The JSON keeps the names of the .proto (`submission_id`, not `submissionId`), so that a field has one name in the
contract, in the messages that name fields, and here. Protobuf's parsers take both. 64-bit numbers are strings, bytes
are base64, fields at their default are left out: that is the form.
"""

import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Final

from epistream.clients.cli.words import json_line, words
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import namespace_service_pb2 as ns
from epistream.v1 import sync_service_pb2 as sync
from epistream.wire.canonical import media_of
from epistream.wire.errors import in_words

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console
    from rich.table import Table

_JUDGED_SHOWN: Final = 20
"""Of what a rater judged at once: a ranking may be of tens of thousands. With --json there are all."""
_PIPE_WIDTH: Final = 160
"""Of tables that no terminal limits."""
_COLOURS: Final = {
    pb.OUTCOME_ADMITTED: "green",
    pb.OUTCOME_REVISED: "cyan",
    pb.OUTCOME_MERGED: "blue",
    pb.OUTCOME_HELD: "yellow",
    pb.OUTCOME_REFUSED: "red",
    pb.OUTCOME_RECORDED: "magenta",
    pb.OUTCOME_REJECTED: "red",
}


@functools.cache
def output() -> "Console":
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


@functools.cache
def notes() -> "Console":
    """Where everything else goes: progress, warnings, errors."""
    from rich.console import Console

    return Console(highlight=False, stderr=True, soft_wrap=True)


def note(text: str, *, style: str | None = None) -> None:
    """Prints a line that is no result, as it is."""
    notes().print(words(text, style or ""))


def print_json(messages: "Iterable[Message]") -> None:
    """One message a line, each on its way before the next is taken."""
    for message in messages:
        print(json_line(message), flush=True)


def outcome_name(outcome: "pb.Outcome.ValueType") -> str:
    """Such as `ADMITTED`."""
    return pb.Outcome.Name(outcome).removeprefix("OUTCOME_")


def reason_name(reason: "pb.Reason.ValueType") -> str:
    """Such as `SAME_CONTENT`."""
    return pb.Reason.Name(reason).removeprefix("REASON_")


def outcome_colour(outcome: "pb.Outcome.ValueType") -> str:
    """The colour that an outcome is shown in."""
    return _COLOURS.get(outcome, "white")


def receipt_text(receipt: pb.Receipt) -> str:
    """A receipt in words: what became of the submission, why, and the figures that led to it."""
    parts = [f"{outcome_name(receipt.outcome)} ({reason_name(receipt.reason)})"]
    if receipt.item_id:
        revision = f", revision {receipt.revision}" if receipt.revision else ""
        parts.append(f"{receipt.item_id} version {receipt.version}{revision}")
    parts += _figures(receipt.figures)
    if receipt.reason == pb.REASON_IMPLAUSIBLE:
        parts += _doubts(receipt.figures)
    parts += map(in_words, receipt.violations)
    if receipt.earlier:
        parts.append("decided earlier")
    return "; ".join(parts)


def print_receipt(receipt: pb.Receipt, label: str = "") -> None:
    """One line."""
    line = words(f"{label}: " if label else "")
    line.append(words(receipt_text(receipt), outcome_colour(receipt.outcome)))
    output().print(line, soft_wrap=True)


def print_item(answer: knowledge.GetResponse) -> None:
    """An item as a panel."""
    from rich.panel import Panel

    change, known = answer.change, answer.change.knowledge
    lines = [
        *([f"prompt: {known.prompt}", ""] if known.prompt else ()),
        known.content,
        "",
        f"origin      {_origin(known.origin)}",
        f"modality    {pb.Modality.Name(known.modality).removeprefix('MODALITY_')}",
    ]
    lines += [f"{name:<11} {value}" for name, value in _provenance(known)]
    lines += [f"attribute   {key}={value}" for key, value in sorted(known.attributes.items())]
    if known.HasField("valid_from"):
        lines.append(f"valid from  {when(known.valid_from)}")
    lines.append(f"committed   {when(change.commit_time)}, revision {change.revision}")
    if answer.corroboration_count:
        who = ", ".join(sorted({corroboration.producer for corroboration in answer.corroborations}))
        times = "once" if answer.corroboration_count == 1 else f"{answer.corroboration_count} times"
        lines.append(f"confirmed   {times}, by {who}")
    if change.conflicts:
        lines.append(f"conflicts   {', '.join(change.conflicts)}")
    lines += [f"contested   {contested_text(conflict)}" for conflict in answer.open_conflicts]
    title = f"{change.item_id} version {change.version}, as of revision {answer.revision}"
    output().print(Panel(words("\n".join(lines)), title=words(title), title_align="left"))


def hits_table(answer: knowledge.SearchResponse) -> "Table":
    """The hits of a search, the nearest first."""
    table = table_of(
        f"as of revision {answer.revision}", "similarity", "item", "version", "origin", "contested", "content"
    )
    for hit in answer.hits:
        known = hit.change.knowledge
        add_row(
            table,
            f"{hit.similarity:.4f}",
            hit.change.item_id,
            str(hit.change.version),
            _origin(known.origin),
            "; ".join(map(contested_text, hit.open_conflicts)),
            known.content,
        )
    return table


def contested_text(conflict: knowledge.OpenConflict) -> str:
    """Such as `by limit-children (conflict 14)`."""
    return f"by {', '.join(conflict.item_ids) or 'what is held'} (conflict {conflict.conflict_id})"


def changes_table(changes: Sequence[pb.Change]) -> "Table":
    """The versions of an item, in their order; from when on they hold where one of them says so."""
    dated = any(change.knowledge.HasField("valid_from") for change in changes)
    columns = ("committed", "valid from") if dated else ("committed",)
    table = table_of("", "version", "revision", "what", "why", *columns, "by", "content")
    for change in changes:
        valid = when(change.knowledge.valid_from) if change.knowledge.HasField("valid_from") else ""
        add_row(
            table,
            str(change.version),
            str(change.revision),
            kind_name(change),
            reason_name(change.reason),
            when(change.commit_time),
            *([valid] if dated else ()),
            f"{change.knowledge.provenance.producer} ({_origin(change.knowledge.origin)})",
            change.knowledge.content,
        )
    return table


def feedback_table(found: Sequence[knowledge.RecordedFeedback]) -> "Table":
    """What raters said."""
    table = table_of("", "rater", "how", "of what", "says", "in words", "recorded")
    for recorded in found:
        said = recorded.submission.feedback
        add_row(
            table,
            f"{said.rater} ({pb.RaterType.Name(said.rater_type).removeprefix('RATER_TYPE_')})",
            pb.FeedbackKind.Name(said.kind).removeprefix("FEEDBACK_KIND_"),
            said.aspect,
            _judgements(said.judged),
            said.rationale,
            when(recorded.time),
        )
    return table


def _judgements(judged: Sequence[pb.Judged]) -> str:
    told = ", ".join(map(_judged, judged[:_JUDGED_SHOWN]))
    return f"{told} and {len(judged) - _JUDGED_SHOWN:,} more" if len(judged) > _JUDGED_SHOWN else told


def _judged(judged: pb.Judged) -> str:
    """Such as `a: place 1, score 5`."""
    place = [f"place {judged.place}"] if judged.HasField("place") else []
    score = [f"score {judged.score:g}"] if judged.HasField("score") else []
    return f"{judged.item_id}: {', '.join([*place, *score])}" if place or score else judged.item_id


def signals_table(answer: knowledge.ListSignalsResponse) -> "Table":
    """The signals of a namespace, cell by cell."""
    title = (
        f"as of revision {answer.revision}, measured {when(answer.time)}, of {answer.records} records, {answer.model}"
        if answer.HasField("time")
        else "not measured yet"
    )
    earlier = [{(one.name, one.producer): one.value for one in each.signals} for each in answer.history]
    before = ["before"] if earlier else []
    table = table_of(title, "cell", "signal", "value", *before, "unit", "items", "producer", "")
    for cell in answer.cells:
        modality = pb.Modality.Name(cell.modality).removeprefix("MODALITY_")
        for signal in cell.signals:
            add_row(
                table,
                f"{_origin(cell.origin)} {modality}",
                signal.name,
                _signal_value(signal),
                *([_values_before(signal, earlier)] if earlier else []),
                signal.unit,
                str(signal.items),
                signal.producer,
                signal.missing or ", ".join(f"{part.name} {part.share:.3g}" for part in signal.parts),
            )
    return table


def _signal_value(signal: knowledge.Signal) -> str:
    """Such as `0.71 (0.66 to 0.77)`."""
    if not signal.HasField("value"):
        return ""
    interval = f" ({signal.low:.3g} to {signal.high:.3g})" if signal.HasField("low") else ""
    return f"{signal.value:.4g}{interval}{', ALARM' if signal.alarm else ''}"


def _values_before(signal: knowledge.Signal, earlier: Iterable[Mapping[tuple[str, str], float]]) -> str:
    """Such as `0.71, -, 0.64`."""
    found = [each.get((signal.name, signal.producer)) for each in earlier]
    return ", ".join("-" if value is None else f"{value:.3g}" for value in found)


def diff_table(answer: knowledge.DiffResponse) -> "Table":
    """What is not the same at two points."""
    table = table_of(f"from revision {answer.from_revision} to {answer.to_revision}", "item", "before", "after")
    for entry in answer.entries:
        add_row(table, entry.item_id, _side(entry, "before"), _side(entry, "after"))
    return table


def namespaces_table(namespaces: Iterable[ns.Namespace]) -> "Table":
    """Namespaces with their figures."""
    table = table_of(
        "",
        "namespace",
        "items",
        "head",
        "merged",
        "held",
        "feedback",
        "encoder",
        "threshold",
        "own vectors",
        "resumable from",
    )
    for namespace in namespaces:
        add_row(
            table,
            namespace.name,
            str(namespace.item_count),
            str(namespace.head_revision),
            str(namespace.merged_count),
            str(namespace.held_count),
            str(namespace.feedback_count),
            f"{namespace.encoder.model} ({namespace.encoder.dimension})",
            f"{namespace.policy.near_duplicate_threshold:g}",
            "taken" if namespace.policy.accept_producer_embeddings else "not taken",
            str(namespace.compacted_revision),
        )
    return table


def policy_table(namespace: ns.Namespace) -> "Table":
    """What a namespace's policy says, field by field, as `--set` takes it."""
    table = table_of(f"policy {namespace.policy_version} of {namespace.name}", "field", "value")
    for field, value in _fields(namespace.policy).items():
        add_row(table, field, value)
    return table


def policies_table(name: str, found: Sequence[ns.PolicyVersion]) -> "Table":
    """The policies of a namespace, the newest first, with what each says else than the one before it."""
    table = table_of(f"policies of {name}", "version", "since", "field", "was", "is")
    for number, one in enumerate(found):
        is_now = _fields(one.policy)
        was = _fields(found[number + 1].policy) if number + 1 < len(found) else {}
        since = when(one.time) if one.HasField("time") else "not kept"
        changed = [(field, was.get(field, ""), value) for field, value in is_now.items() if was.get(field) != value]
        for place, row in enumerate(changed or [("", "", "")]):
            add_row(table, *((str(one.version), since) if place == 0 else ("", "")), *row)
    return table


def _fields(policy: ns.Policy) -> dict[str, str]:
    """What a policy says, as `--set` takes it."""
    import json

    from google.protobuf.json_format import MessageToDict

    said = MessageToDict(policy, preserving_proto_field_name=True)
    return {field: value if isinstance(value, str) else json.dumps(value) for field, value in said.items()}


def consumers_table(answer: sync.ListConsumersResponse) -> "Table":
    """Who follows a namespace, and how far each is."""
    table = table_of(
        f"head revision {answer.head_revision}",
        "consumer",
        "stream",
        "connected",
        "sent",
        "applied",
        "behind",
        "acknowledged",
    )
    for consumer in answer.consumers:
        add_row(
            table,
            consumer.consumer,
            str(consumer.stream),
            "yes" if consumer.connected else "no",
            str(consumer.sent_revision),
            str(consumer.applied_revision),
            str(consumer.lag_revisions),
            when(consumer.acknowledged_time) if consumer.HasField("acknowledged_time") else "never",
        )
    return table


def explanations_table(found: Sequence[knowledge.Explanation]) -> "Table":
    """The rules that were asked of a submission, decision by decision."""
    table = table_of("", "decided", "policy", "outcome", "rule", "", "what was asked and found")
    for told in found:
        outcome = f"{outcome_name(told.receipt.outcome)} ({reason_name(told.receipt.reason)})"
        policy = f"version {told.policy_version}" if told.policy_version else ""
        for number, rule in enumerate(told.rules):
            first = (when(told.receipt.time), policy, outcome) if number == 0 else ("", "", "")
            by = f" (by {told.decided_by}{': ' if told.comment else ''}{told.comment})" if told.decided_by else ""
            add_row(table, *first, rule.name, "decides" if rule.fired else "passed", rule.description + by)
    return table


def alarms_table(alarms: Sequence[pb.CollapseAlarm]) -> "Table":
    """Who says less and less, and who does not."""
    table = table_of("", "producer", "modality", "alarm", "since", "at revision", "ratio", "compared with", "trend")
    for alarm in alarms:
        decisive = next((figures for figures in alarm.ratios if figures.order == 1), None)
        state = "on" if alarm.on else "drifted" if alarm.drifted else "off"
        add_row(
            table,
            alarm.producer or "(the store)",
            pb.Modality.Name(alarm.modality).removeprefix("MODALITY_"),
            state,
            when(alarm.since_time) if alarm.HasField("since_time") else "",
            str(alarm.revision),
            f"{decisive.ratio:.2f} ({decisive.low:.2f} to {decisive.high:.2f})" if decisive else alarm.missing,
            f"{alarm.items} {_compared_with(alarm)}" if decisive else "",
            f"{alarm.slope:+.3f} a window" if alarm.HasField("slope") else "",
        )
    return table


def _compared_with(alarm: pb.CollapseAlarm) -> str:
    return "matched" if alarm.matched else "of these lengths" if alarm.same_lengths else "of people"


def print_change(change: pb.Change) -> None:
    """A change as one line."""
    line = words(f"{change.revision:>8}  ", "dim")
    line.append(f"{kind_name(change):<9}", "red" if change.kind == pb.CHANGE_KIND_RETRACTED else "green")
    line.append(words(f"  {change.item_id} version {change.version}", "bold"))
    line.append(words("  " + " ".join(change.knowledge.content.split())))
    output().print(line, overflow="ellipsis", no_wrap=True)


def kind_name(change: pb.Change) -> str:
    """Such as `ADMITTED`."""
    return pb.ChangeKind.Name(change.kind).removeprefix("CHANGE_KIND_")


def when(time: "Timestamp") -> str:
    """A time for people: UTC, to the second."""
    return time.ToDatetime(UTC).replace(tzinfo=None).isoformat(" ", "seconds") + "Z"


def show(messages: "Iterable[Message]", *, as_json: bool, table: "Callable[[], Table]") -> None:
    """Prints `messages` as JSON, or else `table`."""
    if as_json:
        print_json(messages)
    else:
        output().print(table())


def table_of(title: str, *columns: str) -> "Table":
    """A table without rows."""
    from rich.table import Table

    heading = words(title, "table.title") if title else None
    table = Table(title=heading, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def add_row(table: "Table", *cells: str) -> None:
    """A row of plain text: in rich's own markup `[1]` would be a style."""
    table.add_row(*map(words, cells))


def _figures(figures: pb.Figures) -> list[str]:
    against = f"{figures.item_id} version {figures.version} ({_origin(figures.origin)})"
    if figures.HasField("similarity"):
        return [f"cosine {figures.similarity:.4f} to {against}, threshold {figures.threshold:g}", *figures.differences]
    return [f"against {against}"] if figures.item_id else []


def _doubts(figures: pb.Figures) -> list[str]:
    """Such as `plausibility 0.03`, `TOO_FAR`: why it does not look like knowledge."""
    known = [f"plausibility {figures.plausibility:.2g}"] if figures.HasField("plausibility") else []
    return [*known, *figures.doubts]


def _side(entry: knowledge.DiffEntry, side: str) -> str:
    if not entry.HasField(side):  # type: ignore[arg-type] # one of the two
        return "(not there)"
    change: pb.Change = getattr(entry, side)
    return f"version {change.version}: {change.knowledge.content}"


def _provenance(known: pb.Knowledge) -> list[tuple[str, str]]:
    provenance = known.provenance
    fields = (
        ("producer", provenance.producer),
        ("source", provenance.source),
        ("generator", provenance.generator),
        ("derived", ", ".join(provenance.derived_from)),
        ("licence", provenance.licence),
        ("media", ", ".join(media.uri for media in media_of(known))),
        ("tests", ", ".join(_tests(known.tests)) if known.HasField("tests") else ""),
    )
    return [(name, value) for name, value in fields if value]


def _tests(tests: pb.Tests) -> list[str]:
    """What tests there are, such as `3 asserts`."""
    counts = (("asserts", len(tests.asserts)), ("cases", len(tests.cases)), ("check", int(bool(tests.check))))
    return [f"{count} {name}" if name != "check" else name for name, count in counts if count]


def _origin(origin: "pb.Origin.ValueType") -> str:
    return pb.Origin.Name(origin).removeprefix("ORIGIN_")
