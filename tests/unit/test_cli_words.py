"""What others said, as commands print it (epistream.clients.cli.words, epistream.wire.printable)."""

import json
import re
from collections.abc import Callable
from typing import Final

import pytest
from google.protobuf.json_format import Parse

from epistream.clients.cli import exits, show, show_reviews, words
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as knowledge
from epistream.v1 import review_service_pb2 as api
from epistream.wire.errors import InvalidInput
from epistream.wire.printable import printable, printable_json
from tests.test_layout import ROOT

SAID: Final = "5 mg\x1b]0;pwned\x07\x1b[2J\x1b[1;1H\x9b31m\x7f\r\u202egm 05\u2066\b"
OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
KNOWN: Final = pb.Knowledge(
    content=SAID,
    prompt=SAID,
    modality=pb.MODALITY_TEXT,
    origin=pb.ORIGIN_SYNTHETIC,
    attributes={"a": SAID},
    provenance=pb.Provenance(producer=SAID, source=SAID, generator=SAID, derived_from=[SAID]),
)
CHANGE: Final = pb.Change(
    item_id=SAID, version=1, revision=7, kind=pb.CHANGE_KIND_ADMITTED, knowledge=KNOWN, conflicts=[SAID]
)
SUBMISSION: Final = pb.Submission(
    content=SAID, prompt=SAID, origin=pb.ORIGIN_SYNTHETIC, provenance=KNOWN.provenance, feedback=pb.Feedback(rater=SAID)
)
RECEIPT: Final = pb.Receipt(
    outcome=pb.OUTCOME_HELD, reason=pb.REASON_IMPLAUSIBLE, item_id=SAID, figures=pb.Figures(doubts=[SAID])
)
REVIEW: Final = api.Review(
    item_id=SAID,
    submission=SUBMISSION,
    receipt=RECEIPT,
    comments=[api.ReviewComment(reviewer=SAID, text=SAID)],
    decision=api.ReviewDecision(reviewer=SAID, comment=SAID, receipt=RECEIPT),
    claim=api.ReviewClaim(reviewer=SAID),
)
CONFLICT: Final = api.Conflict(parties=[api.ConflictParty(item_id=SAID, producer=SAID, content=SAID)])
WRONG: Final = InvalidInput.at(SAID, SAID)

PRINTING: Final[dict[str, Callable[[], object]]] = {
    "an item": lambda: show.print_item(
        knowledge.GetResponse(change=CHANGE, open_conflicts=[knowledge.OpenConflict(item_ids=[SAID])])
    ),
    "a change": lambda: show.print_change(CHANGE),
    "a receipt": lambda: show.print_receipt(RECEIPT, SAID),
    "a note": lambda: show.note(SAID, style="red"),
    "an error": lambda: exits.explain(WRONG),
    "a review": lambda: show_reviews.print_review(REVIEW),
    "reviews": lambda: show.output().print(show_reviews.reviews_table(api.ListReviewsResponse(reviews=[REVIEW]))),
    "conflicts": lambda: show.output().print(show_reviews.conflicts_table([CONFLICT])),
    "a history": lambda: show.output().print(show.changes_table([CHANGE])),
    "hits": lambda: show.output().print(show.hits_table(knowledge.SearchResponse(hits=[knowledge.Hit(change=CHANGE)]))),
    "feedback": lambda: show.output().print(show.feedback_table([knowledge.RecordedFeedback(submission=SUBMISSION)])),
    "the title of a table": lambda: show.output().print(show.table_of(SAID, "a")),
    "JSON": lambda: show.print_json([CHANGE]),
}


@pytest.mark.parametrize("name", PRINTING)
def test_what_somebody_said_is_shown_and_not_obeyed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    PRINTING[name]()
    printed = capsys.readouterr()
    assert "\N{REPLACEMENT CHARACTER}" in printed.out + printed.err or "\\u009b" in printed.out
    assert not OBEYED.findall(printed.out + printed.err)


def test_text_is_made_in_one_place_of_all_commands() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "clients").rglob("*.py")
        if re.search(r"\brich\.text\b|markup=", path.read_text())
    ]
    assert users == ["clients/epistream/clients/cli/words.py"]


@pytest.mark.parametrize(
    "text", ["Grüße,\n\t5 mg\r\nof “x”", "می‌خواهم", "👩‍🔬 你好\u3000世界", "שלום\u200f!", "[bold]:smile:[/bold]"]
)
def test_any_other_text_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert words.words(text).plain == text.replace("\r\n", "\n")
    assert printable_json(text) == text


def test_a_replaced_character_is_seen() -> None:
    assert printable("a\x1bb\x9bc\rd\r\ne\u202ef\ud800") == "a�b�c�d\r\ne�f�"


def test_escaped_json_is_the_same_message() -> None:
    line = words.json_line(CHANGE)
    assert line.isascii()
    assert Parse(line, pb.Change()) == CHANGE


def test_a_number_that_json_cannot_say_is_null() -> None:
    change = pb.Change(item_id="limit")
    change.knowledge.details.update({"a": [1.5, {"b": 0.0}], "c": 2.0, "d": {"e": "f"}})
    fields = change.knowledge.details.fields
    fields["c"].number_value = float("nan")
    fields["a"].list_value.values[1].struct_value.fields["b"].number_value = float("-inf")
    told = json.loads(words.json_line(knowledge.DiffResponse(entries=[knowledge.DiffEntry(after=change)])))
    details = told["entries"][0]["after"]["knowledge"]["details"]
    assert details == {"a": [1.5, {"b": None}], "c": None, "d": {"e": "f"}}
    assert fields["c"].HasField("number_value")  # what was given is not changed
