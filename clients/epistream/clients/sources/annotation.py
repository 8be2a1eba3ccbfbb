"""Stage II, annotation: what people wrote, showed, or judged."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Part, Verdict, preference
from epistream.clients.sources.programs import asserted, given, pairs, parsed
from epistream.clients.sources.record import Fields, Json, digest
from epistream.v1 import knowledge_pb2 as pb

DEGREES: Final = ("significantly better", "better", "slightly better", "negligibly better or unsure")
SAFETY: Final = ("preferred_safe", "both_safe", "both_unsafe")
_DEGREES: Final = {
    **{degree: degree for degree in DEGREES},
    **dict.fromkeys(
        ("negligibly better", "unsure", "negligibly better / unsure", "negligibly better/ unsure"), DEGREES[3]
    ),
}
_SAFETY: Final = {
    **{name.replace("_", " "): name for name in SAFETY},
    **dict.fromkeys(("preferred safe only", "chosen safe"), SAFETY[0]),
}
"""The paper's words, and those that its table abbreviates."""
NUMBER_END: Final = 1e100
"""Sums of what is smaller are finite; not a number is not smaller."""
_JUDGES: Final = {"true": "truthfulqa-judge", "info": "truthfulqa-judge", "toxicity": "perspective-api"}
"""Who gave the scores of the evaluation samples."""
_STEPS: Final = "steps/"
_INSTRUCTION: Final = f"{_STEPS}observation/natural_language_instruction"
DIMENSIONS_MAX: Final = 16
"""Of wider fields, such as an embedding of 512, no statistics are kept."""


def instruct_gpt(record: Fields) -> Iterator[Draft]:
    """A demonstration; a ranking of several outputs; or a row of the published evaluation samples."""
    if record.has("demonstration"):
        key, prompt, content = record.digest(), record.text("prompt"), record.text("demonstration")
        yield Item(
            key=key,
            content=content,
            prompt=prompt,
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_TEXT,
            labels={"labeler": record.maybe_name("labeler")},
            details=record.rest(),
        )
    elif record.has("outputs"):
        yield from _ranked_outputs(record)
    else:
        yield from _evaluation_sample(record)


def llama(record: Fields) -> Iterator[Draft]:
    """A comparison of two answers, with its degree, and of Llama 3 an edited answer that is better than both."""
    key, prompt, degree = record.digest(), record.text("prompt"), record.meaning("degree", _DEGREES)
    model = record.name("model", "llama-2-chat")
    labels = {
        "safety": record.meaning("safety", _SAFETY) if "safety" in record else "",
        "batch": record.maybe_name("batch"),
    }
    answers = [("chosen", pb.ORIGIN_COLLABORATIVE), ("rejected", pb.ORIGIN_SYNTHETIC)]
    if "edited" in record:
        answers.append(("edited", pb.ORIGIN_COLLABORATIVE))
    rater, time = record.name("rater", "annotator"), record.maybe_time("time")
    texts = {name: record.text(name) for name, _ in answers}
    rest = record.rest()
    for name, origin in answers:
        yield Item(
            key=f"{key}/{name}",
            content=texts[name],
            prompt=prompt,
            origin=origin,
            modality=pb.MODALITY_TEXT,
            time=time,
            generator=model,
            parents=(f"{key}/chosen",) if name == "edited" else (),
            labels=labels,
            negative=name == "rejected",
            details=rest,
        )
    yield preference(f"{key}/chosen", f"{key}/rejected", rater=rater, degree=degree, time=time)
    if "edited" in texts:
        judged = (Judged(f"{key}/chosen"), Judged(f"{key}/edited"))
        yield Verdict(kind=pb.FEEDBACK_KIND_EDIT, judged=judged, rater=rater, time=time)


def human_eval(record: Fields) -> Iterator[Draft]:
    """A task of HumanEval with its solution."""
    prompt, entry_point = record.text("prompt"), record.name("entry_point")
    yield Item(
        key=record.name("task_id"),
        content=prompt + record.text("canonical_solution"),
        prompt=prompt,
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_CODE,
        tests=pb.Tests(language="python", check=record.text("test"), entry_point=entry_point),
        labels={"language": "python", "entry_point": entry_point},
        details=record.rest(),
    )


def mbpp(record: Fields) -> Iterator[Draft]:
    """A task of MBPP with its solution: of the whole set, or of the sanitized one, which calls its text `prompt`."""
    sanitized = not record.has("text")
    imports = record.texts("test_imports") if sanitized else []
    setup = "\n".join([*imports, record.words("test_setup_code")]).strip("\n")
    asserts, challenges = record.texts("test_list", 1), record.texts("challenge_test_list")
    yield Item(
        key=str(record.integer("task_id", 0)),
        content=record.text("code"),
        prompt=record.text("prompt" if sanitized else "text"),
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_CODE,
        tests=asserted(asserts + challenges, setup),
        labels={"language": "python"},
        details={**({"challenge_tests": len(challenges)} if challenges else {}), **record.rest()},
    )


def apps(record: Fields) -> Iterator[Draft]:
    """A problem of APPS: each of its solutions is an item, with the problem's tests.

    A problem without solutions, as many of the test half are, is an item itself.
    """
    problem, question = record.name("problem_id" if record.has("problem_id") else "id"), record.text("question")
    # The ids of the two halves, train and test, are the same.
    key = f"{problem}-{digest(question)[:8]}"
    texts = Fields({"solutions": parsed(record, "solutions")}).texts("solutions")
    metadata = Fields(parsed(record, "metadata") or {}, "metadata")
    about = metadata if "metadata" in record else record
    source, difficulty = about.maybe_address("url"), about.maybe_name("difficulty")
    said = record.raw("input_output")
    tests, of_tests = _apps_tests(record)
    rest = {**of_tests, **metadata.rest(), **record.rest()}
    if not texts:
        yield Item(
            key=key,
            content=question,
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_TEXT,
            source=source,
            labels={"difficulty": difficulty, "problem": problem},
            details={**({"input_output": said} if said else {}), **rest},
        )
    for i, solution in enumerate(texts):
        yield Item(
            key=f"{key}/{i}",
            content=solution,
            prompt=question,
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_CODE,
            source=source,
            tests=_tests_of(solution, tests),
            labels={"language": "python", "difficulty": difficulty, "problem": problem},
            details=rest,
        )


def magic_brush(record: Fields) -> Iterator[Draft]:
    """A turn of an editing session: an instruction, the image before, the mask, and the image after."""
    image, turn = record.name("img_id"), record.integer("turn_index", 1, 1000)
    parts = {role: _edited(record, role, f"{image}/{turn}-{role}.png") for role in ("source", "mask", "target")}
    for role in ("source", "target"):
        if parts[role] is None:
            raise record.wrong(f"{role}_img", "the bytes of an image")
    yield Item(
        key=f"{image}/{turn}",
        content=record.text("instruction"),
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_IMAGE,
        media=tuple(part for part in parts.values() if part is not None),
        parents=(f"{image}/{turn - 1}",) if turn > 1 else (),
        labels={"image": image},
        details=record.rest(),
    )


def rt_1(record: Fields) -> Iterator[Draft]:
    """An episode of RT-1: the instruction; of the numbers only their statistics, since the episode holds them."""
    file, offset, features = record.address("file"), record.integer("offset", 0), record.object("features")
    instruction = _instruction(features)
    length = len(features.items(f"{_STEPS}is_first", 1))
    rest = {name.removeprefix(_STEPS): _statistics(values, length) for name, values in features.rest().items()}
    yield Item(
        key=f"{file}/{offset}",
        content=instruction,
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_VIDEO,
        media=(Part(uri=f"{file}#offset={offset}", role="episode"),),
        labels={"steps": str(length)},
        details={"steps": length, "fields": {name: value for name, value in rest.items() if value}, **record.rest()},
    )


def mobile_aloha(record: Fields) -> Iterator[Draft]:
    """An episode of Mobile ALOHA. The format has no words: `task` has to be said by who imports it."""
    file, datasets, attributes = record.address("file"), record.object("datasets"), record.object("attributes")
    if "task" not in record:
        raise record.wrong("task", "what is done, which episodes do not say: --set task=TEXT")
    task = record.text("task")
    length = _shape(datasets, "/action")[0]
    cameras = [name for name in datasets.rest() if name.startswith("/observations/images/")]
    for name in ("/observations/qpos", "/observations/qvel"):
        if _shape(datasets, name)[0] != length:
            raise datasets.wrong(name, f"a shape of {length} steps, as /action")
    yield Item(
        # Every task has an episode_0.hdf5.
        key=f"{task}/{file}",
        content=task,
        origin=pb.ORIGIN_EXPERT,
        modality=pb.MODALITY_VIDEO,
        media=(Part(uri=file, role="episode", media_type="application/x-hdf5"),),
        labels={"task": task, "steps": str(length)},
        details={
            "steps": length,
            "cameras": [PurePosixPath(name).name for name in cameras],
            "attributes": attributes.rest(),
            "datasets": record.raw("datasets"),
            **record.rest(),
        },
    )


def _edited(record: Fields, role: str, otherwise: str) -> Part | None:
    """An image by the path that the record gives, or `otherwise`; None where the record says that there is none.

    Of a record without a column of images only the name is known.
    """
    if not record.has(f"{role}_img"):
        return Part(uri=otherwise, role=role)
    content, path = record.image(f"{role}_img")
    return None if content is None else Part(uri=path or otherwise, role=role, media_type="image/png", content=content)


def _ranked_outputs(record: Fields) -> Iterator[Draft]:
    key, prompt = record.digest(), record.text("prompt")
    outputs = record.texts("outputs", 2)
    places = record.places("rank", len(outputs))
    labeler, model = record.name("labeler"), record.name("model", "instruct-gpt")
    rest = record.rest()
    for i, output in enumerate(outputs):
        yield Item(
            key=f"{key}/{i}",
            content=output,
            prompt=prompt,
            origin=pb.ORIGIN_SYNTHETIC,
            modality=pb.MODALITY_TEXT,
            generator=model,
            details=rest,
        )
    judged = tuple(Judged(f"{key}/{i}", place) for i, place in enumerate(places))
    yield Verdict(kind=pb.FEEDBACK_KIND_RANKING, judged=judged, rater=labeler)


def _evaluation_sample(record: Fields) -> Iterator[Draft]:
    """A row of `automatic-eval-samples`: of TruthfulQA (`question`, `answer`), or of TL;DR (`context`, `sample`)."""
    asks, answers = ("context", "sample") if record.has("context") else ("question", "answer")
    key, prompt, content = record.digest(), record.text(asks), record.text(answers)
    scores = {name: record.number(name, 0, 1) for name in _JUDGES if name in record}
    model = record.name("model_type", "instruct-gpt")
    yield Item(
        key=key,
        content=content,
        prompt=prompt,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_TEXT,
        generator=model,
        labels={"prompt_type": record.maybe_name("prompt_type")},
        details=record.rest(),
    )
    for aspect, score in scores.items():
        yield Verdict(
            kind=pb.FEEDBACK_KIND_RATING,
            judged=(Judged(key, score=score),),
            rater=_JUDGES[aspect],
            rater_type=pb.RATER_TYPE_AI,
            aspect=aspect,
            scale=(0, 1),
        )


def _apps_tests(record: Fields) -> tuple[pb.Tests | None, dict[str, Json]]:
    """Of standard input and output, or of a function where the problem names one; and what else is said of them."""
    said = parsed(record, "input_output")
    if said is None:
        return None, {}
    fields = Fields(said, "input_output")
    entry_point = fields.maybe_name("fn_name")
    inputs, outputs = fields.raw("inputs"), fields.raw("outputs")
    expected = _unwrapped(outputs) if entry_point else outputs
    cases = pairs(inputs, expected, "input_output", as_json=bool(entry_point))
    return given(cases, "python", entry_point), fields.rest()


def _unwrapped(outputs: Json) -> Json:
    """The results of a function; where each stands in a list of its own, without it, as the work's judge takes them."""
    wrapped = isinstance(outputs, list | tuple) and all(isinstance(one, list) and len(one) == 1 for one in outputs)
    return [one[0] for one in outputs] if wrapped else outputs


def _tests_of(solution: str, tests: pb.Tests | None) -> pb.Tests | None:
    """The problem's tests; of `class Solution` an object's method is called, as the work's judge does."""
    if tests is None or not tests.entry_point or "class Solution" not in solution:
        return tests
    made = pb.Tests(setup=f"{tests.entry_point} = Solution().{tests.entry_point}")
    made.MergeFrom(tests)
    return made


def _instruction(features: Fields) -> str:
    """The one instruction of all steps."""
    said = {value for value in features.items(_INSTRUCTION, 1) if isinstance(value, bytes | str)}
    texts = sorted(v.decode(errors="surrogateescape") if isinstance(v, bytes) else v for v in said)
    if len(texts) != 1:
        raise features.wrong(_INSTRUCTION, f"one instruction for all steps; there are {len(texts)}")
    return Fields({"instruction": texts[0]}).text("instruction")


def _statistics(values: Json, length: int) -> Json:
    """Least, mean and greatest of each dimension; None of what are no numbers of each step."""
    if not isinstance(values, list | tuple) or not values or len(values) % length:
        return None
    if not all(isinstance(value, int | float) and abs(value) < NUMBER_END for value in values):
        return None
    width = len(values) // length
    columns: Sequence[Sequence[float]] = [values[i::width] for i in range(width)] if width <= DIMENSIONS_MAX else []
    return [[min(column), statistics.fmean(column), max(column)] for column in columns]


def _shape(datasets: Fields, name: str) -> list[int]:
    shape = datasets.object(name).items("shape", 2, 2)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape):
        raise datasets.wrong(name, "a shape of two sizes, steps first")
    return list(shape)
