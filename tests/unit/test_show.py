"""What people read of what they are answered (epistream.clients.cli.show)."""

from epistream.clients.cli.show import receipt_text
from epistream.v1 import knowledge_pb2 as pb


def test_what_was_held_for_how_it_looks_says_why() -> None:
    figures = pb.Figures(plausibility=0.0259, doubts=["TOO_FAR", "TOO_SHORT"])
    receipt = pb.Receipt(outcome=pb.OUTCOME_HELD, reason=pb.REASON_IMPLAUSIBLE, figures=figures)
    assert receipt_text(receipt) == "HELD (IMPLAUSIBLE); plausibility 0.026; TOO_FAR; TOO_SHORT"


def test_where_plausibility_is_not_known_the_doubts_stand_alone() -> None:
    receipt = pb.Receipt(
        outcome=pb.OUTCOME_HELD, reason=pb.REASON_IMPLAUSIBLE, figures=pb.Figures(doubts=["NO_ANCHORS"])
    )
    assert receipt_text(receipt) == "HELD (IMPLAUSIBLE); NO_ANCHORS"


def test_doubts_that_held_nothing_are_not_told() -> None:
    figures = pb.Figures(plausibility=0.6, doubts=["TOO_SHORT"])
    receipt = pb.Receipt(outcome=pb.OUTCOME_ADMITTED, reason=pb.REASON_NEW, figures=figures)
    assert receipt_text(receipt) == "ADMITTED (NEW)"
