"""RLAIF, of stage IV: answers that a model criticised, revised and ranked by the principles that people wrote."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Verdict, preference
from epistream.clients.sources.record import Fields, Json, UnreadableRecord, shown
from epistream.v1 import knowledge_pb2 as pb

_TURN: Final = "\n\nHuman:"
_ANSWER: Final = "\n\nAssistant:"
_OPTION: Final = re.compile(
    r"^ ?(\([A-Z]\)) (?:\[\[\[(.*?)\]\]\]|(.*?))\s*(?=^ ?\([A-Z]\) |^The answer is:|\Z)", re.MULTILINE | re.DOTALL
)
"""Such as ` (A) Theft`, or ` (A) [[[an answer of several lines]]]`, at the end of a question of an evaluation."""
_HELPFUL, _TRAINED, _ASSISTANT = "helpful-rlhf", "rl-cai", "hh-assistant-52b"
"""Models by what their papers call them: that whose answers were criticised and revised, that which was trained on the
revisions, and that of the dialogues of hh-rlhf."""


def constitutional_ai(record: Fields) -> Iterator[Draft]:
    """A revision by a principle; a pair of hh-rlhf; a sample; a question of an evaluation; a principle by its name.

    Or a text of a list of instructions or examples.
    """
    if record.has("revision"):
        yield from _revision(record)
    elif record.has("chosen"):
        yield from _dialogues(record)
    elif record.has("corrects"):
        yield from _choices(record)
    elif record.has("key"):
        yield _principle(record)
    elif record.has("text"):
        yield _instruction(record)
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
        details={**said.rest(), **record.rest()},
    )


def _instruction(record: Fields) -> Item:
    """A text of a list: what a model is asked when it has to choose, or a dialogue that shows how it is done."""
    return Item(
        key=record.digest(),
        content=record.text("text").strip(),
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_TEXT,
        details=record.rest(),
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
    """Each preference model ranks the answers by its scores, which have no scale; of one answer they are details."""
    answers = record.objects("sampled_answers", 1)
    said = [
        (each.text("sampled_string"), [one.number("pm_score") for one in each.objects("pm_scores", 1)])
        for each in answers
    ]
    rest = record.rest()
    for i, (text, _) in enumerate(said):
        scores = {"pm_scores": answers[i].raw("pm_scores")}
        yield _answer(f"{key}/{i}", text, prompt, _TRAINED, details={**answers[i].rest(), **scores, **rest})
    by_model: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for i, (_, given) in enumerate(said):
        for model, score in enumerate(given):
            by_model[model].append((i, score))
    for model, scored in sorted(by_model.items()):
        order = sorted({score for _, score in scored}, reverse=True)
        places = {score: place for place, score in enumerate(order, 1)}
        judged = tuple(Judged(f"{key}/{i}", places[score], score) for i, score in scored)
        if len(judged) > 1:
            rater = f"preference-model-{model}" if model else "preference-model"
            yield Verdict(kind=pb.FEEDBACK_KIND_RANKING, judged=judged, rater=rater, rater_type=pb.RATER_TYPE_AI)


def _revised(record: Fields, key: str, prompt: str) -> Iterator[Draft]:
    """Each revision was derived from the answer before it, which the critique is of."""
    first, *others = record.objects("initial_response", 1)
    steps = record.objects("cst", 1)
    answers, said = [first, *(step.object("revision") for step in steps)], [step.object("critique") for step in steps]
    texts = [answer.text("sample") for answer in answers]
    critiques = [(step.name("cst_key"), each.text("sample")) for step, each in zip(steps, said, strict=True)]
    more = {"further_responses": [other.rest() for other in others]} if others else {}
    rest = {**more, **record.rest()}
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
            details={**answers[i].rest(), **(steps[i - 1].rest() if i else {}), **rest},
        )
    for i, (principle, critique) in enumerate(critiques):
        yield _critique(f"{key}/{i}", _HELPFUL, principle, critique, said[i].rest())


def _critique(
    key: str, model: str, principle: str, critique: str, details: Mapping[str, Json] | None = None
) -> Verdict:
    return Verdict(
        kind=pb.FEEDBACK_KIND_CRITIQUE,
        judged=(Judged(key),),
        rater=model,
        rater_type=pb.RATER_TYPE_AI,
        aspect=principle,
        rationale=critique,
        details=details or {},
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


def _options(prompt: str) -> dict[str, str]:
    """The texts of the options that a question lists, by their letters, such as (A)."""
    listed = [(letter, (bracketed or plain).strip()) for letter, bracketed, plain in _OPTION.findall(prompt)]
    options = dict(listed)
    if len(options) < len(listed):
        raise UnreadableRecord("prompt", "each option once", shown(" ".join(letter for letter, _ in listed)))
    return options


def _choices(record: Fields) -> Iterator[Draft]:
    """A question of an evaluation, and the text of the option that is right.

    A wrong option is no item: beside the right one, as another answer of people to the same question, it would be a
    conflict. Its text stays in the question, its letter in the authors' verdict.
    """
    key, prompt = record.digest(), record.text("prompt")
    options = _options(prompt)
    right, wrong = record.texts("corrects", 1), record.texts("incorrects")
    rest = record.rest()
    for i, letter in enumerate(right):
        content = options.get(letter.strip())
        if not content:
            raise UnreadableRecord(f"corrects[{i}]", "an option that the prompt lists, such as (A)", shown(letter))
        yield Item(
            key=f"{key}/{i}",
            content=content,
            prompt=prompt,
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_TEXT,
            details=rest,
        )
    for i in range(len(right)):
        yield Verdict(
            kind=pb.FEEDBACK_KIND_BINARY,
            judged=(Judged(f"{key}/{i}", score=1),),
            rater="authors",
            details={"corrects": right, "incorrects": wrong},
        )
