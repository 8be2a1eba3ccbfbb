"""Stage III, synthesis: what models made, with the model, the prompt, and what it was made from."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Part, Verdict, lineage
from epistream.clients.sources.moments import DAY_SECONDS, seconds
from epistream.clients.sources.record import Fields, Json, digest
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.canonical import canonical_code

_GPT_3: Final = "davinci"
_CODE_MARK: Final = "```"
_MIRA_CAPTIONS: Final = ("main_object", "background", "style", "camera", "short")
FRAMES_MAX: Final = 10**9


def self_instruct(record: Fields) -> Iterator[Draft]:
    """A seed task of a person; an instruction of a model, or what it made of one; a training row; or a prediction."""
    if record.has("instances"):
        yield from _seed_task(record)
        return
    prompt, content, model = _generated(record)
    seeds = tuple(record.names("seed_ids"))
    yield Item(
        key=digest(prompt, content, model),
        content=content,
        prompt=prompt,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_TEXT,
        generator=model,
        parents=seeds,
        details=record.rest(),
    )


def phi(record: Fields) -> Iterator[Draft]:
    """A page of a synthetic textbook, or an exercise: a docstring and its completion."""
    exercise = record.has("completion")
    prompt = record.text("docstring") if exercise else ""
    content = f"{prompt}\n{record.text('completion')}" if exercise else record.text("text")
    yield Item(
        key=digest(prompt, content),
        content=content,
        prompt=prompt,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_CODE if exercise else pb.MODALITY_TEXT,
        generator=record.name("generator", "gpt-3.5"),
        labels={
            "topic": record.maybe_name("topic"),
            "audience": record.maybe_name("audience"),
            "language": "python" if exercise else "",
        },
        details=record.rest(),
    )


def evol_instruct(record: Fields) -> Iterator[Draft]:
    """An evolved instruction and its answer; an output of WizardCoder for a task; or an instruction of the test set.

    The second version has each as a conversation of two turns.
    Only the name of a file tells the variant of code, which has another licence, from the rest.
    """
    file = PurePosixPath(record.maybe_address("file")).name
    if record.has("completion") or record.has("all_code"):
        yield from _wizard_coder(record)
        return
    if record.has("Instruction"):
        yield _test_instruction(record)
        return
    prompt, content, turns = _evolved(record)
    key, parents = lineage(record, "evolved_from", digest(prompt, content))
    yield Item(
        key=key,
        content=content,
        prompt=prompt,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_CODE if _is_code(content) else pb.MODALITY_TEXT,
        generator=record.name("generator", "gpt-3.5-turbo"),
        parents=parents,
        licence="CC-BY-NC-SA-4.0" if "code" in file.lower() else "",
        labels={"evolution": record.maybe_name("op")},
        details={**turns, **record.rest()},
    )


def oss_instruct(record: Fields) -> Iterator[Draft]:
    """A problem and its solution, which a model made from a snippet of real code: the snippet is an item, too."""
    language, seed = record.name("lang").lower(), record.text("seed")
    # Snippets that differ in line ends only are one item, which has to have one name.
    snippet = f"seed-{digest(canonical_code(seed))}"
    # Each language is numbered from 0, and the published file has nine of them.
    key = f"{language}/{record.integer('index', 0)}" if "index" in record else record.digest()
    problem, solution = record.text("problem"), record.text("solution")
    fingerprint = record.maybe_name("openai_fingerprint")
    labels = {"language": language}
    yield Item(
        key=snippet,
        content=seed,
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_CODE,
        labels=labels,
    )
    yield Item(
        key=key,
        content=solution,
        prompt=problem,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_CODE,
        generator=f"gpt-3.5-turbo-1106{'@' if fingerprint else ''}{fingerprint}"[:200],
        parents=(snippet,),
        labels=labels,
        details=record.rest(),
    )


def dalle_3(record: Fields) -> Iterator[Draft]:
    """A recaption of an image; a line of a file of sample prompts; or a verdict of DrawBench on an image."""
    if record.has("key"):
        yield from _draw_bench(record)
    elif record.has("caption"):
        yield from _recaption(record)
    else:
        yield _image_of_prompt(record)


def share_gpt_4_video(record: Fields) -> Iterator[Draft]:
    """A video: the caption of all of it is an item, and each caption of a part one that was derived from it."""
    video = record.name("video_id")
    path = record.maybe_address("video_path") or f"{video}.mp4"
    captions = [(each.name("idx"), each.text("content"), each.rest()) for each in record.objects("captions", 1)]
    times = [
        seconds(Fields({"time": value}, f"timestamp[{i}]"), "time") for i, value in enumerate(record.items("timestamp"))
    ]
    frames = [_frame(record, i, value) for i, value in enumerate(record.items("keyframe"))]
    rest = {**{name: record.raw(name) for name in ("timestamp", "keyframe") if name in record}, **record.rest()}
    of_all = [each for each in captions if each[0] == "-1" or len(captions) == 1]
    parts = [each for each in captions if each not in of_all]
    whole = of_all[0][1] if of_all else "\n".join(text for _, text, _ in parts)
    of_whole = of_all[0][2] if of_all else {}
    yield _captioned(video, whole, (Part(uri=path, media_type="video/mp4"),), {**of_whole, **rest})
    for i, (index, text, details) in enumerate(parts):
        part = Part(uri=path, media_type="video/mp4", start_seconds=_at(times, i), end_seconds=_at(times, i + 1))
        frame_range = {"frame_range": [_at(frames, i), _at(frames, i + 1)]} if frames else {}
        yield _captioned(f"{video}/{index}", text, (part,), {**details, **frame_range}, parents=(video,))


def mira_data(record: Fields) -> Iterator[Draft]:
    """A clip and its dense caption; the five others are in its details, to be compared with it."""
    video, first, last = record.name("video_id"), record.integer("start_frame", 0), record.integer("end_frame", 0)
    fps = record.number("fps", 0.01, 1000)
    if last < first:
        raise record.wrong("end_frame", f"a frame not before start_frame, {first}")
    if last / fps > DAY_SECONDS:
        raise record.wrong("end_frame", "a frame of the first day")
    captions = {f"{name}_caption": record.words(f"{name}_caption") for name in _MIRA_CAPTIONS}
    part = Part(uri=f"{video}.mp4", start_seconds=first / fps, end_seconds=last / fps)
    frames = {"start_frame": first, "end_frame": last, "fps": fps}
    yield _captioned(
        f"{video}/{first}-{last}",
        record.text("dense_caption" if record.has("dense_caption") else "short_caption"),
        (part,),
        {"captions": {k: v for k, v in captions.items() if v}, **frames, **record.rest()},
    )


def _seed_task(record: Fields) -> Iterator[Draft]:
    key, instruction = record.name("id"), record.text("instruction")
    instances = [(each.words("input"), each.text("output"), each.rest()) for each in record.objects("instances", 1)]
    rest = record.rest()
    for i, (given, content, details) in enumerate(instances):
        yield Item(
            key=key if i == 0 else f"{key}/{i}",
            content=content,
            prompt=_asked(instruction, given),
            origin=pb.ORIGIN_EXPERT,
            modality=pb.MODALITY_TEXT,
            details={**details, **rest},
        )


def _generated(record: Fields) -> tuple[str, str, str]:
    """What a model was asked, what it made of that, and the model.

    A row that says to what it is `most_similar`, and has no output, is an instruction that the model made up. Instances
    of one are one text, as the model wrote them; where it wrote none, the instruction stands alone.
    """
    if record.has("completion"):
        return record.text("prompt"), record.text("completion"), _GPT_3
    model, instances = record.name("model", _GPT_3), record.words("raw_instances")
    if instances:
        return record.text("instruction"), instances, model
    if record.has("most_similar") and not record.has("output"):
        return "", record.text("instruction"), model
    asked = _asked(record.text("instruction"), record.words("input"))
    return asked, record.text("response" if record.has("response") else "output"), model


def _asked(instruction: str, given: str) -> str:
    return f"{instruction}\n{given}" if given else instruction


def _evolved(record: Fields) -> tuple[str, str, Mapping[str, Json]]:
    """The instruction, its answer, and what else the turns of a conversation say."""
    if not record.has("conversations"):
        return record.text("instruction"), record.text("output"), {}
    turns = record.objects("conversations", 2, 2)
    for turn, speaker in zip(turns, ("human", "gpt"), strict=True):
        turn.choice("from", speaker)
    prompt, content = (turn.text("value") for turn in turns)
    rest = [turn.rest() for turn in turns]
    return prompt, content, {"conversations": rest} if any(rest) else {}


def _wizard_coder(record: Fields) -> Iterator[Draft]:
    task = record.name("task_id")
    content = record.text("all_code") if "all_code" in record else record.text("completion")
    yield Item(
        key=f"{task}/{digest(content)}",
        content=content,
        prompt=record.words("prompt"),
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_CODE,
        generator=record.name("generator", "wizardcoder-15b"),
        licence="CC-BY-NC-4.0",
        labels={"task": task},
        details=record.rest(),
    )


def _test_instruction(record: Fields) -> Item:
    """A row of the test set: an instruction of a person, without an answer."""
    return Item(
        key=f"test/{record.integer('idx', 0)}",
        content=record.text("Instruction"),
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_TEXT,
        labels={"skill": record.maybe_name("Skill")},
        details=record.rest(),
    )


def _is_code(content: str) -> bool:
    return _CODE_MARK in content or content.startswith(("def ", "class ", "import ", "#include"))


def _recaption(record: Fields) -> Iterator[Draft]:
    """The alternative text is an item that the caption was derived from; both are of the same image."""
    caption, alt, model = record.text("caption"), record.words("alt"), record.name("generator", "dall-e-3-captioner")
    key = record.digest()
    image = Part(uri=record.maybe_address("url") or f"{key}.png")
    rest = record.rest()
    if alt:
        yield Item(key=f"{key}/alt", content=alt, origin=pb.ORIGIN_CRAWLED, modality=pb.MODALITY_IMAGE, media=(image,))
    yield Item(
        key=key,
        content=caption,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_IMAGE,
        generator=model,
        parents=(f"{key}/alt",) if alt else (),
        media=(image,),
        details=rest,
    )


def _image_of_prompt(record: Fields) -> Item:
    """Line n of a file of prompts, counted from 0: image n was made of it."""
    file, line = record.address("file"), record.integer("line", 0)
    return Item(
        key=f"{file}/{line}",
        content=record.text("text"),
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_IMAGE,
        generator="dall-e-3",
        media=(Part(uri=f"{file.removesuffix('.gz').removesuffix('.txt')}/{line}.png"),),
        details=record.rest(),
    )


def _draw_bench(record: Fields) -> Iterator[Draft]:
    """What a model says of an image: whether it is as its prompt, which the published file leaves out, and why."""
    path, said = record.address("key"), record.object("value")
    correct, response = said.raw("correct"), said.text("response")
    if not isinstance(correct, bool):
        raise said.wrong("correct", "true or false")
    if "prompt" in said:
        prompt, model = said.text("prompt"), said.name("generator", "dall-e-3")
        yield Item(
            key=path,
            content=prompt,
            origin=pb.ORIGIN_SYNTHETIC,
            modality=pb.MODALITY_IMAGE,
            generator=model,
            media=(Part(uri=path),),
        )
    yield Verdict(
        kind=pb.FEEDBACK_KIND_BINARY,
        judged=(Judged(path, score=float(correct)),),
        rater="gpt-4v",
        rater_type=pb.RATER_TYPE_AI,
        aspect="alignment",
        rationale=response,
        details={**said.rest(), **record.rest()},
    )


def _captioned(
    key: str, caption: str, media: tuple[Part, ...], details: Mapping[str, Json], parents: tuple[str, ...] = ()
) -> Item:
    return Item(
        key=key,
        content=caption,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_VIDEO,
        generator="gpt-4v",
        parents=parents,
        media=media,
        details=details,
    )


def _frame(record: Fields, i: int, value: object) -> int:
    return Fields({"frame": value}, record.path(f"keyframe[{i}]")).integer("frame", 0, FRAMES_MAX)


def _at(values: list[float] | list[int], i: int) -> float | None:
    return values[i] if i < len(values) else None
