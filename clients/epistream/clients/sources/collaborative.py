"""Stage IV, collaboration: what people, models and programs made and judged together."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from epistream.clients.sources.drafts import Draft, Item, Judged, Part, Verdict, lineage
from epistream.clients.sources.programs import asserted, given, pairs, parsed
from epistream.clients.sources.record import Fields, Json, UnreadableRecord, digest, is_line, shown
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import WORD_CHARACTERS_MAX

_SHARE: Final = re.compile(r"(\d{1,9})/(\d{1,9})(?:\W.*)?", re.DOTALL)
"""Such as `2/3, IndexError`: passed, of how many, and what was said."""
_LANGUAGES: Final = {0: "unknown", 1: "python2", 2: "cpp", 3: "python", 4: "java"}
"""Of a solution of CodeContests, by its number; PYTHON is Python 2 there."""
_NAMES: Final = {"UNKNOWN_LANGUAGE": 0, "PYTHON": 1, "CPP": 2, "PYTHON3": 3, "JAVA": 4}
_SITES: Final = ("", "codechef", "codeforces", "hackerearth", "codejam", "atcoder", "aizu")
"""Of a problem of CodeContests, by its `source` in Parquet; names are unique within one."""
_SITES_OF_MESSAGES: Final = (*_SITES[:5], "", *_SITES[5:])
"""The messages leave 5 out."""
_EXECUTOR: Final = "sandbox"


def super_brain(record: Fields) -> Iterator[Draft]:
    """A heuristic that a person and a model evolved together, with its fitness on each aim."""
    dyad, generation = record.name("dyad"), record.integer("prompt_gen", 0, 10**6)
    key, parents = lineage(record, "parent", f"p{generation}/{record.digest()}")
    heuristic, fitness = record.text("heuristic"), record.object("fitness")
    scores = {aim: fitness.number(aim, 0, 1) for aim in fitness.rest()}
    if not all(aim and is_line(aim, WORD_CHARACTERS_MAX) for aim in scores):
        raise record.wrong("fitness", f"names of aims of 1 to {WORD_CHARACTERS_MAX} characters on one line")
    yield Item(
        key=key,
        content=heuristic,
        origin=pb.ORIGIN_COLLABORATIVE,
        modality=pb.MODALITY_TEXT,
        producer=dyad,
        generator=record.name("model", dyad.rpartition("+")[2]),
        parents=parents,
        labels={"prompt_generation": str(generation)},
        details=record.rest(),
    )
    for aim, score in scores.items():
        yield Verdict(
            kind=pb.FEEDBACK_KIND_RATING,
            judged=(Judged(key, score=score),),
            rater="fitness",
            rater_type=pb.RATER_TYPE_EXECUTOR,
            aspect=aim,
            scale=(0, 1),
        )


def rlef(record: Fields) -> Iterator[Draft]:
    """A program that was mended turn by turn: every turn is an item that was derived from the one before."""
    key, prompt, model = record.digest(), record.text("prompt"), record.name("model", "deepseek-coder-v2")
    turns = [(turn.text("code"), turn.words("public"), turn.rest()) for turn in record.objects("turns", 1, 1000)]
    shares = [_share(public, f"turns[{i}].public") for i, (_, public, _) in enumerate(turns)]
    private = record.words("private")
    final = _share(private, "private")
    language = record.language("language", "python")
    tests = asserted(record.texts("tests"), language=language)
    rest, last = record.rest(), len(turns) - 1
    for i, (code, _, details) in enumerate(turns):
        yield Item(
            key=f"{key}/{i}",
            content=code,
            prompt=prompt,
            origin=pb.ORIGIN_COLLABORATIVE if i == last else pb.ORIGIN_SYNTHETIC,
            modality=pb.MODALITY_CODE,
            generator=model,
            parents=(f"{key}/{i - 1}",) if i else (),
            tests=tests,
            labels={"language": language, "turn": str(i)},
            negative=i != last,
            details={**details, **rest} if i == last else details,
        )
    for i, (_, public, _) in enumerate(turns):
        yield from _executed(f"{key}/{i}", shares[i], "public tests", public)
    yield from _executed(f"{key}/{last}", final, "private tests", private)


def code_contests(record: Fields) -> Iterator[Draft]:
    """A problem of CodeContests: each solution is an item with the problem's tests, wrong ones as negative items.

    A record with a `sample` is a program of AlphaCode 2 for a problem: whether it passed the public tests, its cluster,
    of programs that answer alike, how many those are, and what the scoring model makes of it.
    """
    if record.has("sample"):
        yield from _sampled(record)
        return
    site = _site(record)
    name = "/".join(filter(None, (site, record.name("name"))))
    prompt = record.words("description")
    by_kind = {kind: list(_cases(record, f"{kind}_tests")) for kind in ("public", "private", "generated")}
    cases = [case for kind in by_kind.values() for case in kind]
    solutions = [(False, *one) for one in _solutions(record, "solutions")]
    solutions += [(True, *one) for one in _solutions(record, "incorrect_solutions")]
    if not solutions:
        raise record.wrong("solutions", "at least 1 solution, right or wrong")
    # The tests come in this order.
    rest = {"tests_by_kind": {kind: len(each) for kind, each in by_kind.items()}, **record.rest()}
    tests = {language: given(cases, language) for _, language, _ in solutions}
    keys = []
    for i, (wrong, language, solution) in enumerate(solutions):
        keys.append((f"{name}/{i}", wrong))
        yield Item(
            key=f"{name}/{i}",
            content=solution,
            prompt=prompt,
            origin=pb.ORIGIN_COLLABORATIVE,
            modality=pb.MODALITY_CODE,
            tests=tests[language],
            labels={"language": language, "problem": name, "site": site},
            negative=wrong,
            details=rest,
        )
    for key, wrong in keys:
        yield _verdict_of_program(key, float(not wrong), "judge", "all tests")


def _site(record: Fields) -> str:
    """Where a problem is from; empty where that is not said. Parquet has lists of solutions' parts, and its numbers."""
    sites = _SITES if isinstance(parsed(record, "solutions"), Mapping) else _SITES_OF_MESSAGES
    number = record.integer("source", 0, 100) if "source" in record else 0
    return sites[number] if number < len(sites) else ""


def _sampled(record: Fields) -> Iterator[Draft]:
    name, prompt, program = record.name("name"), record.text("description"), record.text("sample")
    language = _language(record.raw("language"), record.path("language"))
    cases = [case for kind in ("public", "private", "generated") for case in _cases(record, f"{kind}_tests")]
    passed = record.raw("passed")
    if not isinstance(passed, bool | None):
        raise record.wrong("passed", "true, false or nothing")
    score = record.number("score", 0, 1) if "score" in record else None
    cluster, size = record.maybe_name("cluster"), record.maybe_integer("cluster_size", 1)
    key = f"sample/{name}/{digest(program)}"
    yield Item(
        key=key,
        content=program,
        prompt=prompt,
        origin=pb.ORIGIN_SYNTHETIC,
        modality=pb.MODALITY_CODE,
        generator=record.name("model", "alphacode-2"),
        licence=record.name("license", "LicenseRef-AlphaCode-2"),
        tests=given(cases, language),
        labels={"language": language, "problem": name, "cluster": cluster},
        negative=passed is False,
        details={**({"cluster_size": size} if size else {}), **record.rest()},
    )
    if passed is not None:
        yield _verdict_of_program(key, float(passed), _EXECUTOR, "public tests")
    if score is not None:
        yield Verdict(
            kind=pb.FEEDBACK_KIND_RATING,
            judged=(Judged(key, score=score),),
            rater="scoring-model",
            rater_type=pb.RATER_TYPE_AI,
            aspect="correctness",
            scale=(0, 1),
        )


def movie_gen(record: Fields) -> Iterator[Draft]:
    """A prompt of the bench: of a video, or of the sound of one.

    Sound is published twice, with the same ids and prompts of videos: alone, and with music, which is another file.
    """
    audio = record.has("video_prompt")
    content = record.text("video_prompt" if audio else "prompt")
    details = {name: record.words(name) for name in ("audio_prompt", "music_prompt") if name in record}
    sound = "music" if details.get("music_prompt") else "audio"
    key = f"{sound}-{record.name('id')}" if audio else record.digest()
    yield Item(
        key=key,
        content=content,
        origin=pb.ORIGIN_COLLABORATIVE,
        modality=pb.MODALITY_VIDEO,
        generator="movie-gen",
        media=(Part(uri=f"{key}.mp4"),),
        labels={
            "concept": "" if audio else record.name("concept"),
            "motion": "" if audio else record.maybe_name("motion_level"),
        },
        details={**details, **record.rest()},
    )


def video_physics(record: Fields) -> Iterator[Draft]:
    """A video of a model and what people think of it: whether it is as its caption says, and as physics has it.

    VideoPhy answers both with yes or no. VideoPhy-2 gives both from 1 to 5, which `joint` tells, or one `score` from 1
    to 5, of `aspect`, which is physics unless it is said. A row of its rules has a `rule` and no caption, and a score:
    1 when the video keeps it, 0 when not, 2 when nobody can tell. Without a score nobody was asked: the rule itself is
    what it says.
    """
    if record.has("rule") and "caption" not in record:
        yield _rule(record)
        return
    path, rule = record.address(_video(record)), record.words("rule")
    aspect = record.choice("aspect", "alignment", "physics") if "aspect" in record else "physics"
    answers = (("sa", "alignment"), ("pc", "physics"))
    graded = "joint" in record
    low, high = (1, 5) if graded else (0, 1)
    said = {about: record.integer(name, low, high) for name, about in answers if name in record}
    score = record.integer("score", 1, 5) if "score" in record else None
    if not said and score is None:
        raise record.wrong("pc", "0 or 1, or a score")
    rater, model = record.name("rater", "annotators"), record.name("model", "text-to-video")
    yield Item(
        key=path,
        content=record.text("caption"),
        origin=pb.ORIGIN_COLLABORATIVE,
        modality=pb.MODALITY_VIDEO,
        generator=model,
        media=(_clip(path),),
        details={**({"rule": rule} if rule else {}), **record.rest()},
    )
    for about, answer in said.items():
        judged = (Judged(path, score=answer),)
        kind, scale = (pb.FEEDBACK_KIND_RATING, (1, 5)) if graded else (pb.FEEDBACK_KIND_BINARY, None)
        yield Verdict(kind=kind, judged=judged, rater=rater, aspect=about, scale=scale)
    if score is not None:
        judged = (Judged(path, score=score),)
        yield Verdict(kind=pb.FEEDBACK_KIND_RATING, judged=judged, rater=rater, aspect=aspect, scale=(1, 5))
    if rule:
        judged = (Judged(path),)
        yield Verdict(kind=pb.FEEDBACK_KIND_CRITIQUE, judged=judged, rater=rater, aspect="physics", rationale=rule)


def _video(record: Fields) -> str:
    """The field that has the video: a path in the repository, an address in the data sets."""
    return "video_url" if record.has("video_url") and not record.has("videopath") else "videopath"


def _clip(path: str) -> Part:
    return Part(uri=path, media_type="video/mp4" if path.endswith(".mp4") else "")


def _rule(record: Fields) -> Draft:
    path, rule = record.address(_video(record)), record.text("rule")
    if "score" not in record:
        model = record.name("model", "text-to-video")
        return Item(
            key=f"{path}/{digest(rule)}",
            content=rule,
            origin=pb.ORIGIN_COLLABORATIVE,
            modality=pb.MODALITY_VIDEO,
            generator=model,
            media=(_clip(path),),
            labels={"kind": "rule"},
            details=record.rest(),
        )
    rater, score = record.name("rater", "annotators"), record.integer("score", 0, 2)
    known = score < 2
    return Verdict(
        kind=pb.FEEDBACK_KIND_BINARY if known else pb.FEEDBACK_KIND_CRITIQUE,
        judged=(Judged(path, score=score if known else None),),
        rater=rater,
        aspect="physics",
        rationale=rule,
        degree="" if known else "nobody can tell",
        details=record.rest(),
    )


def _share(said: str, path: str) -> float | None:
    """What share of tests was passed; None where nothing is said."""
    if not said:
        return None
    found = _SHARE.fullmatch(said)
    if found is None or not 0 < int(found[2]) >= int(found[1]):
        raise UnreadableRecord(path, "tests passed, such as 2/3, then what was said", shown(said))
    return int(found[1]) / int(found[2])


def _executed(key: str, share: float | None, aspect: str, said: str) -> Iterator[Verdict]:
    if share is not None:
        yield _verdict_of_program(key, share, _EXECUTOR, aspect, said, graded=True)


def _verdict_of_program(
    key: str, score: float, rater: str, aspect: str, said: str = "", *, graded: bool = False
) -> Verdict:
    return Verdict(
        kind=pb.FEEDBACK_KIND_RATING if graded else pb.FEEDBACK_KIND_BINARY,
        judged=(Judged(key, score=score),),
        rater=rater,
        rater_type=pb.RATER_TYPE_EXECUTOR,
        aspect=aspect,
        rationale=said,
        scale=(0, 1) if graded else None,
    )


def _cases(record: Fields, name: str) -> Iterator[tuple[str, str]]:
    """Tests as messages, or as two lists as Parquet has them."""
    value = parsed(record, name)
    if isinstance(value, list | tuple):
        tests = [Fields(each, f"{name}[{i}]") for i, each in enumerate(value)]
        value = {"input": [each.raw("input") for each in tests], "output": [each.raw("output") for each in tests]}
    both = Fields(value or {}, name)
    yield from pairs(_lines(both.raw("input")), _lines(both.raw("output")), name)


def _lines(values: Json) -> Json:
    """A test without an input reads nothing."""
    return ["" if value is None else value for value in values] if isinstance(values, list | tuple) else values or []


def _solutions(record: Fields, name: str) -> Iterator[tuple[str, str]]:
    """The language and the text of each, from messages or from two lists."""
    value = parsed(record, name)
    if isinstance(value, list | tuple):
        each = [Fields(one, f"{name}[{i}]") for i, one in enumerate(value)]
        languages: Sequence[Json] = [one.raw("language") for one in each]
        texts = [one.text("solution") for one in each]
    else:
        both = Fields(value or {}, name)
        languages, texts = both.items("language"), both.texts("solution")
    if len(languages) != len(texts):
        raise UnreadableRecord(f"{name}.language", f"a list of {len(texts)}, as solution", f"one of {len(languages)}")
    for i, (language, text) in enumerate(zip(languages, texts, strict=True)):
        yield _language(language, f"{name}.language[{i}]"), text


def _language(said: Json, path: str) -> str:
    number = _NAMES.get(said, said) if isinstance(said, str) else said
    if number is None:
        return _LANGUAGES[0]
    if isinstance(number, bool) or not isinstance(number, int) or number not in _LANGUAGES:
        raise UnreadableRecord(path, f"one of {', '.join(_NAMES)}, or its number", shown(said))
    return _LANGUAGES[number]
