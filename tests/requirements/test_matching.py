"""R1 to R8 on published pairs, by the whole pipeline with the packaged encoder. The table: docs/requirements.md."""

from pathlib import Path

import pytest

from tests.support.forms import known_again
from tests.support.merging import Merging, measure
from tests.support.samples import needs_samples

pytestmark = needs_samples


@pytest.fixture(scope="module")
def merging(tmp_path_factory: pytest.TempPathFactory) -> Merging:
    return measure(Path(tmp_path_factory.mktemp("merging")))


def test_r01_differences_of_form_make_no_new_item(merging: Merging) -> None:
    assert merging.r01().of >= 70
    assert merging.r01().value >= 0.97


def test_r01_sentences_of_the_web_and_of_wikipedia_are_known_again_in_other_forms() -> None:
    found = known_again()
    assert found["in capitals"].of >= 3000
    assert found.pop("in capitals").value >= 0.96  # what may be the sign of a unit keeps them apart
    assert found.pop("more white space").value >= 0.99  # but in strings of code
    assert {name: again.value for name, again in found.items()} == dict.fromkeys(found, 1.0)


def test_r02_changed_values_negations_and_directions_are_never_merged(merging: Merging) -> None:
    assert merging.r02_values().of >= 240
    assert merging.r02_turns().of >= 220
    assert merging.r02_values().count == 0
    assert merging.r02_turns().count == 0


def test_r03_swapped_numbers_nations_and_contradictions_are_never_merged(merging: Merging) -> None:
    assert merging.r03_values().of >= 660
    assert merging.r03_others().of >= 1100
    assert merging.r03_values().count == 0
    assert merging.r03_others().count == 0


def test_r04_some_synonyms_are_merged_and_no_pair_that_is_no_paraphrase(merging: Merging) -> None:
    """The target is half of the synonyms and of the paraphrases: missed, see docs/requirements.md."""
    assert merging.r04_synonyms().value >= 0.18
    assert merging.r04_paraphrases().of == 20  # none of them is merged
    assert merging.r04_wrong().count == 0
    assert merging.wrong().of >= 1400
    assert merging.wrong().count == 0


def test_r05_statements_that_have_nothing_to_do_with_each_other_are_never_merged(merging: Merging) -> None:
    assert merging.strangers.of >= 6000
    assert merging.strangers.count == 0


def test_r06_the_order_decides_nothing(merging: Merging) -> None:
    assert merging.r06().value >= 0.99


def test_r07_a_replay_changes_no_row(merging: Merging) -> None:
    assert merging.replayed_unchanged


def test_r08_a_contradiction_is_a_conflict_and_its_question_brings_both(merging: Merging) -> None:
    assert merging.r08().of >= 40
    assert merging.r08().value >= 0.95
