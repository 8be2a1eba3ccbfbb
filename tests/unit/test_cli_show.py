"""What people read of what they are answered (epistream.clients.cli.show)."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from epistream.clients.cli.show import alarms_table, policy_table, receipt_text, when
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import namespace_service_pb2 as ns


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


def test_a_policy_is_shown_as_it_is_set() -> None:
    policy = ns.Policy(near_duplicate_threshold=0.95, verify_code=False, guard=ns.GUARD_HOLD, anchor_after=7)
    table = policy_table(ns.Namespace(name="pharmacy", policy=policy, policy_version=3))
    assert str(table.title) == "policy 3 of pharmacy"
    fields, values = (list(map(str, column.cells)) for column in table.columns)
    assert dict(zip(fields, values, strict=True)) == {
        "near_duplicate_threshold": "0.95",
        "guard": "GUARD_HOLD",
        "verify_code": "false",
        "anchor_after": "7",
    }


def test_a_time_has_four_digits_of_its_year() -> None:
    told = []
    for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 31, 12, 0, 7, 250_000, tzinfo=UTC)):
        time = Timestamp()
        time.FromDatetime(moment)
        told.append(when(time))
    assert told == ["0001-01-01 00:00:00Z", "2026-01-31 12:00:07Z"]


def test_an_alarm_says_what_its_window_was_compared_with() -> None:
    alarms = [pb.CollapseAlarm(matched=True), pb.CollapseAlarm(same_lengths=True), pb.CollapseAlarm()]
    for alarm in alarms:
        alarm.items = 250
        alarm.ratios.add(order=1, ratio=0.9, low=0.8, high=1.0)
    compared = {column.header: list(map(str, column.cells)) for column in alarms_table(alarms).columns}
    assert compared["compared with"] == ["250 matched", "250 of these lengths", "250 of people"]
