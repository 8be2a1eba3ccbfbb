"""Who looks at which review: each keeps others away from some, and nobody keeps all others from looking at any."""

import pytest

from epistream.services import claims
from epistream.services.claims import Claims
from epistream.wire.errors import Conflict, Unavailable
from tests.support.knowing import HandClock


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIMS_MAX", 3)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def held(clock: HandClock) -> Claims:
    """Ada has as many of pharmacy as one may, for eight hours."""
    made = Claims(clock, str)
    for review_id in range(3):
        made.take("pharmacy", review_id, "ada", 8 * 3600)
    return made


def test_who_has_claimed_too_many_keeps_nobody_else_from_claiming(held: Claims) -> None:
    with pytest.raises(Unavailable, match="ada has claimed 3 reviews of pharmacy") as refused:
        held.take("pharmacy", 3, "ada", 1)
    assert refused.value.reason == "OVERLOADED"
    assert held.take("pharmacy", 3, "bob", 1) is not None
    assert held.take("law", 3, "ada", 1) is not None
    with pytest.raises(Conflict):
        held.take("pharmacy", 0, "bob", 1)


def test_a_claim_may_be_held_for_longer_and_what_is_let_go_of_or_has_run_out_counts_no_more(
    held: Claims, clock: HandClock
) -> None:
    assert held.take("pharmacy", 2, "ada", 9 * 3600) is not None
    held.take("pharmacy", 0, "ada", 0)
    assert held.take("pharmacy", 3, "ada", 1) is not None
    clock.us += 1_000_001
    assert held.take("pharmacy", 4, "ada", 1) is not None
    assert [held.of("pharmacy", one) is not None for one in range(5)] == [False, True, True, False, True]
    held.drop("pharmacy", 1)
    assert held.take("pharmacy", 5, "ada", 1) is not None
    with pytest.raises(Unavailable):
        held.take("pharmacy", 6, "ada", 1)


def test_who_claims_what_another_s_claim_has_run_out_on_has_it_alone(held: Claims, clock: HandClock) -> None:
    clock.us += 8 * 3_600_000_000
    assert held.take("pharmacy", 0, "bob", 60) is not None
    for review_id in (3, 4, 5):
        assert held.take("pharmacy", review_id, "ada", 60) is not None
    claim = held.of("pharmacy", 0)
    assert claim is not None
    assert claim.reviewer == "bob"
