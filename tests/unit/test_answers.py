"""An answer belongs to its prompt, code to its tests, a caption to all that it describes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import json_format

from epistream.indexer.decode import decode
from epistream.indexer.embed import text_to_embed
from epistream.indexer.engine import Engine
from epistream.indexer.model import Decoded, Position, Record
from epistream.v1 import knowledge_pb2 as pb
from epistream.v1 import knowledge_service_pb2 as api
from tests.support.bad_input import JSON, good_submission
from tests.support.knowing import NAMESPACE, commit, direction, open_engine, submission

ANSWER = direction(1.0, 0.1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(tmp_path)
    yield engine
    engine.close()


def answer(content: str, prompt: str, id: str, item: str = "") -> pb.Submission:  # noqa: A002 - as in the contract
    made = submission(content, id=id, item=item, vector=ANSWER)
    made.prompt = prompt
    return made


def code(id: str, *asserts: str) -> pb.Submission:  # noqa: A002 - as in the contract
    made = submission("def add(a, b):\n    return a + b", id=id, item="add", vector=ANSWER)
    made.modality = pb.MODALITY_CODE
    made.tests.CopyFrom(pb.Tests(language="python", asserts=asserts))
    return made


def known(engine: Engine, item_id: str) -> pb.Knowledge:
    return engine.knowledge.get(api.GetRequest(namespace=NAMESPACE, item_id=item_id)).change.knowledge


def test_the_same_answer_to_another_prompt_is_other_knowledge(engine: Engine) -> None:
    capital, birth = "What is the capital of France?", "Where was she born?"
    first, other, again, alone = commit(
        engine,
        answer("Paris.", capital, "1", "capital"),
        answer("Paris.", birth, "2", "birth"),
        answer("Paris.", f" {capital} ", "3"),
        submission("Paris.", id="4", vector=ANSWER),
    )
    assert [r.outcome for r in (first, other, alone)] == [pb.OUTCOME_ADMITTED] * 3
    assert (again.outcome, again.reason, again.item_id) == (pb.OUTCOME_MERGED, pb.REASON_SAME_CONTENT, "capital")
    assert (known(engine, "capital").prompt, known(engine, "birth").prompt) == (capital, birth)


def test_claims_are_compared_only_under_the_same_prompt(engine: Engine) -> None:
    commit(engine, answer("The limit is 5 mg.", "And for adults?", "1", "adults"))
    other, same = commit(
        engine,
        answer("The limit is 50 mg.", "And for horses?", "2"),
        answer("The limit is 50 mg.", "And for adults?", "3"),
    )
    assert other.reason == pb.REASON_NEW
    assert same.reason == pb.REASON_NEW_WITH_CONFLICT


def test_other_tests_of_the_same_code_are_a_new_version_of_it(engine: Engine) -> None:
    commit(engine, code("1", "assert add(1, 2) == 3"))
    same, more = commit(
        engine, code("2", "assert add(1, 2) == 3"), code("3", "assert add(1, 2) == 3", "assert add(0, 0) == 0")
    )
    assert same.reason == pb.REASON_SAME_CONTENT
    assert (more.outcome, more.version) == (pb.OUTCOME_REVISED, 2)
    assert list(known(engine, "add").tests.asserts) == ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def test_the_same_code_from_somebody_else_is_not_merged_if_it_comes_with_tests_that_would_be_lost(
    engine: Engine,
) -> None:
    commit(engine, code("1", "assert add(1, 2) == 3"))
    bare = code("4")
    bare.ClearField("tests")
    sent = [code("2", "assert add(0, 0) == 0"), code("3", "assert add(1, 2) == 3"), bare]
    for one in sent:
        one.item_id, one.provenance.producer = "", "bob"

    others, same, none = commit(engine, *sent)

    assert (others.outcome, others.reason) == (pb.OUTCOME_ADMITTED, pb.REASON_NEW)
    assert list(known(engine, others.item_id).tests.asserts) == ["assert add(0, 0) == 0"]
    assert (same.outcome, same.item_id) == (pb.OUTCOME_MERGED, "add")
    assert (none.outcome, none.reason) == (pb.OUTCOME_MERGED, pb.REASON_SAME_CLAIM)


def test_captions_of_other_parts_or_of_more_pictures_are_other_knowledge(engine: Engine) -> None:
    def caption(id: str) -> pb.Submission:  # noqa: A002 - as in the contract
        made = submission("A cup moves.", id=id, vector=ANSWER)
        made.modality = pb.MODALITY_VIDEO
        made.media.uri = "https://example.org/1.mp4"
        return made

    whole, part, more, again = caption("1"), caption("2"), caption("3"), caption("4")
    part.media.start.seconds, part.media.end.seconds = 2, 4
    more.further_media.add(uri="https://example.org/mask.png", role="mask")
    again.media.CopyFrom(part.media)
    receipts = commit(engine, whole, part, more, again)
    assert [pb.Outcome.Name(r.outcome) for r in receipts] == ["OUTCOME_ADMITTED"] * 3 + ["OUTCOME_MERGED"]
    assert receipts[3].item_id == receipts[1].item_id
    assert known(engine, receipts[2].item_id).further_media[0].role == "mask"


def test_an_answer_is_found_by_its_prompt() -> None:
    assert text_to_embed(answer(" Paris. ", "Capital  of France?", "1")) == "Capital of France?\nParis."
    assert text_to_embed(submission(" Paris. ", id="1")) == "Paris."


def test_everything_has_a_json_form() -> None:
    sent = good_submission()
    sent.modality, sent.prompt = pb.MODALITY_VIDEO, "What happens?"
    sent.media.uri, sent.media.start.nanos = "x:y", 500_000_000
    sent.further_media.add(uri="x:z", role="mask")
    sent.details.update({"a": [1, None, {"b": "c"}], "d": {}, "e": True})
    value = json_format.MessageToJson(sent).encode()
    decoded = decode(Record(value, 0, JSON, position=Position("submissions", 0, 0)))
    assert isinstance(decoded, Decoded), decoded.violations
    assert decoded.submission == sent


def test_the_tests_and_feedback_too_have_a_json_form() -> None:
    tested = code("1", "assert add(1, 2) == 3")
    tested.tests.cases.add(input="[1, 2]", output="3")
    tested.tests.entry_point = "add"
    judged = pb.Submission(
        namespace=NAMESPACE,
        submission_id="f",
        origin=pb.ORIGIN_CRAWLED,
        provenance=pb.Provenance(producer="panel"),
        feedback=pb.Feedback(
            kind=pb.FEEDBACK_KIND_PAIRWISE,
            judged=[pb.Judged(item_id="a", place=1, score=0.5), pb.Judged(item_id="b", place=1)],
            rater="r",
            rater_type=pb.RATER_TYPE_AI,
            degree="a tie",
        ),
    )
    for sent in (tested, judged):
        value = json_format.MessageToJson(sent).encode()
        decoded = decode(Record(value, 0, JSON, position=Position("submissions", 0, 0)))
        assert isinstance(decoded, Decoded), decoded.violations
        assert decoded.submission == sent
