"""RLAIF, of stage IV: answers that a model criticised, revised and ranked by the principles that people wrote."""

from collections.abc import Iterator, Mapping
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Verdict, preference
from epistream.clients.sources.record import Fields, Json
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import JUDGED_MAX

_TURN: Final = "\n\nHuman:"
_ANSWER: Final = "\n\nAssistant:"
_HELPFUL, _TRAINED, _ASSISTANT = "helpful-rlhf", "rl-cai", "hh-assistant-52b"
"""Models by what their papers call them: that whose answers were criticised and revised, that which was trained on the
revisions, and that of the dialogues of hh-rlhf."""


def constitutional_ai(record: Fields) -> Iterator[Draft]:
    """A revision by a principle; a pair of hh-rlhf; a sample; a question of an evaluation; a principle by its name."""
    if record.has("revision"):
        yield from _revision(record)
    elif record.has("chosen"):
        yield from _dialogues(record)
    elif record.has("corrects"):
        yield from _choices(record)
    elif record.has("key"):
        yield _principle(record)
    else:
        yield from _sample(record)


def _revision(record: Fields) -> Iterator[Draft]:
    key, prompt, model = record.digest(), record.text("prompt"), record.name("model", _HELPFUL)
    initial, critique, revision = record.text("initial"), record.text("critique"), record.text("revision")
    principle, rest = record.maybe_name("principle"), record.rest()
    for name, content, origin in (
        ("initial", initial, pb.ORIGIN_SYNTHETIC),
        ("revision", revision, pb.ORIGIN_COLLABORATIVE),
    ):
        yield Item(
            key=f"{key}/{name}",
            content=content,
            prompt=prompt,
            origin=origin,
            modality=pb.MODALITY_TEXT,
            generator=model,
            parents=(f"{key}/initial",) if name == "revision" else (),
            labels={"principle": principle},
            negative=name == "initial",
            details=rest,
        )
    yield _critique(f"{key}/initial", model, principle, critique)


def _dialogues(record: Fields) -> Iterator[Draft]:
    """A pair of hh-rlhf: two dialogues that differ in the last answer, which is the content."""
    key = record.digest()
    rest_of: dict[str, tuple[str, str]] = {}
    for name in ("chosen", "rejected"):
        prompt, mark, answer = record.text(name).rpartition(_ANSWER)
        if not mark or not answer.strip() or _TURN in answer:
            raise record.wrong(name, "a dialogue that ends with an answer of the assistant")
        rest_of[name] = (prompt.strip(), answer.strip())
    rest = record.rest()
    for name, (prompt, answer) in rest_of.items():
        yield Item(
            key=f"{key}/{name}",
            content=answer,
            prompt=prompt,
            origin=pb.ORIGIN_COLLABORATIVE if name == "chosen" else pb.ORIGIN_SYNTHETIC,
            modality=pb.MODALITY_TEXT,
            generator=_ASSISTANT,
            licence="MIT",
            negative=name == "rejected",
            details=rest,
        )
    yield preference(f"{key}/chosen", f"{key}/rejected", rater="annotator")


def _principle(record: Fields) -> Item:
    name, said = record.name("key"), record.object("value")
    critique = said.raw("prompt")
    request = critique[0] if isinstance(critique, list | tuple) and len(critique) == 1 else critique
    if not isinstance(request, str):
        raise said.wrong("prompt", "a text, or a list of one")
    return Item(
        key=f"principle/{name}",
        content=said.text("edit_request"),
        prompt=request,
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        labels={"principle": name},
        details=said.rest(),
    )


def _sample(record: Fields) -> Iterator[Draft]:
    """A row of the samples: answers that a preference model scored, or an answer that was revised again and again."""
    key, prompt = record.digest(), record.text("rl_prompt")
    comparison, model = record.words("comparison_model"), record.name("comparison_dataset", "comparison")
    if record.has("cst"):
        yield from _revised(record, key, prompt)
    else:
        yield from _scored(record, key, prompt)
    if comparison:
        yield _answer(f"{key}/comparison", comparison, prompt, model)


def _scored(record: Fields, key: str, prompt: str) -> Iterator[Draft]:
    answers = record.objects("sampled_answers", 1, JUDGED_MAX)
    said = [(each.text("sampled_string"), _pm_score(each)) for each in answers]
    order = sorted({score for _, score in said}, reverse=True)
    for i, (text, _) in enumerate(said):
        yield _answer(f"{key}/{i}", text, prompt, _TRAINED, details=answers[i].rest())
    if len(said) > 1:
        judged = tuple(Judged(f"{key}/{i}", order.index(score) + 1, score) for i, (_, score) in enumerate(said))
        yield Verdict(
            kind=pb.FEEDBACK_KIND_RANKING, judged=judged, rater="preference-model", rater_type=pb.RATER_TYPE_AI
        )


def _pm_score(answer: Fields) -> float:
    return answer.objects("pm_scores", 1)[0].number("pm_score")


def _revised(record: Fields, key: str, prompt: str) -> Iterator[Draft]:
    """Each revision was derived from the answer before it, which the critique is of."""
    initial = record.objects("initial_response", 1)[0].text("sample")
    steps = record.objects("cst", 1, JUDGED_MAX)
    texts = [initial, *(step.object("revision").text("sample") for step in steps)]
    critiques = [(step.name("cst_key"), step.object("critique").text("sample")) for step in steps]
    for i, text in enumerate(texts):
        last = i == len(steps)
        yield Item(
            key=f"{key}/{i}",
            content=text,
            prompt=prompt,
            origin=pb.ORIGIN_COLLABORATIVE if last else pb.ORIGIN_SYNTHETIC,
            modality=pb.MODALITY_TEXT,
            generator=_HELPFUL,
            parents=(f"{key}/{i - 1}",) if i else (),
            labels={"principle": critiques[i - 1][0] if i else ""},
            negative=not last,
            details=steps[i - 1].rest() if i else {},
        )
    for i, (principle, critique) in enumerate(critiques):
        yield _critique(f"{key}/{i}", _HELPFUL, principle, critique)


def _critique(key: str, model: str, principle: str, critique: str) -> Verdict:
    return Verdict(
        kind=pb.FEEDBACK_KIND_CRITIQUE,
        judged=(Judged(key),),
        rater=model,
        rater_type=pb.RATER_TYPE_AI,
        aspect=principle,
        rationale=critique,
    )


def _answer(key: str, text: str, prompt: str, model: str, details: Mapping[str, Json] | None = None) -> Item:
    return Item(
        key=key,
        content=text,
        prompt=prompt,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_TEXT,
        generator=model,
        details=details or {},
    )


def _choices(record: Fields) -> Iterator[Draft]:
    """A question of the HHH evaluations: its right answers, and the wrong ones as negative items."""
    key, prompt = record.digest(), record.text("prompt")
    answers = [(text, False) for text in record.texts("corrects", 1, JUDGED_MAX)]
    answers += [(text, True) for text in record.texts("incorrects", 0, JUDGED_MAX - len(answers))]
    rest = record.rest()
    for i, (text, wrong) in enumerate(answers):
        yield Item(
            key=f"{key}/{i}",
            content=text.strip(),
            prompt=prompt,
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_TEXT,
            negative=wrong,
            details=rest,
        )
    if len(answers) > 1:
        judged = tuple(Judged(f"{key}/{i}", 2 if wrong else 1) for i, (_, wrong) in enumerate(answers))
        yield Verdict(kind=pb.FEEDBACK_KIND_RANKING, judged=judged, rater="authors")
