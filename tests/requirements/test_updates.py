"""R9 to R12 on items that change over the years, with the packaged encoder. The table: docs/requirements.md."""

from pathlib import Path

import pytest

from tests.support.samples import needs_samples
from tests.support.updating import Updating, measure

pytestmark = needs_samples


@pytest.fixture(scope="module")
def updating(tmp_path_factory: pytest.TempPathFactory) -> Updating:
    return measure(Path(tmp_path_factory.mktemp("updating")))


def test_r09_the_newest_answer_is_the_current_one(updating: Updating) -> None:
    assert updating.current_by_key.of >= 250
    assert updating.current_by_key.value == 1
    assert updating.current_by_question.of >= 50
    assert updating.current_by_question.value >= 0.95


def test_r10_what_held_at_a_date_is_read_as_of_that_date(updating: Updating) -> None:
    assert updating.as_of_by_key.of >= 50
    assert updating.as_of_by_key.value == 1
    assert updating.as_of_by_question.value >= 0.95


def test_r10_what_held_at_a_date_is_read_by_valid_time_whatever_the_order(updating: Updating) -> None:
    assert updating.held_by_key.of >= 150
    assert updating.held_by_key.value == 1
    assert updating.held_by_question.value >= 0.95


def test_r11_a_history_has_every_version_in_the_order_of_valid_time_whatever_the_order_of_arrival(
    updating: Updating,
) -> None:
    assert updating.shuffled_complete.of >= 50
    assert updating.shuffled_complete.value == 1


def test_r11_what_comes_late_never_makes_an_older_answer_current(updating: Updating) -> None:
    assert updating.shuffled_current.of >= 50
    assert updating.shuffled_current.value == 1


def test_r12_updates_change_no_answer_about_anything_else(updating: Updating) -> None:
    assert updating.controls_changed.of >= 180
    assert updating.controls_changed.value <= 0.005
