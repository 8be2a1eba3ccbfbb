"""Stage I, crawl: what was collected from the web. No person has judged it."""

from collections.abc import Iterator

from epistream.clients.sources.drafts import Draft, Item, Part
from epistream.clients.sources.moments import seconds
from epistream.clients.sources.record import Fields, digest, is_line
from epistream.v1 import knowledge_pb2 as pb
from epistream.wire.limits import ADDRESS_CHARACTERS_MAX, ID_CHARACTERS_MAX


def common_crawl(record: Fields) -> Iterator[Draft]:
    """A record of a WET file: the text of a page."""
    headers = record.object("headers")
    headers.choice("WARC-Type", "conversion")
    digest = record.digest()
    yield Item(
        key=headers.name("WARC-Record-ID", digest).strip("<>"),
        content=record.text("text"),
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_TEXT,
        source=headers.address("WARC-Target-URI"),
        time=headers.time("WARC-Date"),
        labels={"language": headers.maybe_name("WARC-Identified-Content-Language")},
        details={"headers": headers.rest(), **record.rest()},
    )


def c4(record: Fields) -> Iterator[Draft]:
    """A row of C4: the cleaned text of a page."""
    yield Item(
        key=record.digest(),
        content=record.text("text"),
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_TEXT,
        source=record.address("url"),
        time=record.time("timestamp"),
        details=record.rest(),
    )


def codex(record: Fields) -> Iterator[Draft]:
    """A file of a repository. A later commit of the same file is a new version of it."""
    repository, path, commit = record.address("repo"), record.address("path"), record.maybe_name("commit")
    yield Item(
        key=f"{repository}/{path}",
        content=record.text("content"),
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_CODE,
        source=_source(record, "path", f"{repository}/{path}{'@' if commit else ''}{commit}"),
        licence=record.maybe_name("license"),
        labels={"language": record.maybe_name("lang") or "python", "repository": repository},
        details=record.rest(),
    )


def the_stack(record: Fields) -> Iterator[Draft]:
    """A row of The Stack: a file, and where it was found starred most often."""
    repository, path = record.address("max_stars_repo_name"), record.maybe_address("max_stars_repo_path")
    head, licences = record.maybe_name("max_stars_repo_head_hexsha"), record.names("max_stars_repo_licenses")
    parts = ("https://github.com", repository, f"blob/{head}" if head and path else "", path)
    yield Item(
        key=record.name("hexsha"),
        content=record.text("content"),
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_CODE,
        source=_source(record, "max_stars_repo_path", "/".join(filter(None, parts))),
        time=record.maybe_time("max_stars_repo_stars_event_min_datetime"),
        licence=_licences(licences),
        labels={"language": record.name("lang").lower(), "repository": repository},
        details={"max_stars_repo_licenses": licences, **record.rest()},
    )


def laion(record: Fields) -> Iterator[Draft]:
    """A row of LAION-5B: a link to an image and its alternative text.

    `similarity` is the cosine of CLIP ViT-B/32 where the text is English; of other languages it is another model's.
    """
    url, text, language = record.address("URL"), record.text("TEXT"), record.maybe_name("LANGUAGE")
    is_of_clip = "similarity" in record and language in ("", "en")
    size = {name.lower(): record.maybe_integer(name, 0) for name in ("WIDTH", "HEIGHT")}
    yield Item(
        # One image has other alternative texts elsewhere.
        key=digest(url, text),
        content=text,
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_IMAGE,
        source=url,
        licence=record.maybe_name("LICENSE").strip("?"),
        media=(Part(uri=url),),
        labels={"language": language, "similarity_model": "ViT-B/32" if is_of_clip else ""},
        details={**size, **record.rest()},
    )


def webvid(record: Fields) -> Iterator[Draft]:
    """A row of WebVid-10M: a stock video and its caption. The same video again is a new version."""
    url = record.address("contentUrl")
    yield Item(
        key=str(record.integer("videoid", 0)),
        content=record.text("name"),
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_VIDEO,
        source=url,
        media=(Part(uri=url, end_seconds=seconds(record, "duration")),),
        details=record.rest(),
    )


def kinetics(record: Fields) -> Iterator[Draft]:
    """A clip of Kinetics-400: a row of the CSV, or an entry of the JSON by the id of its video."""
    if record.has("key"):
        video, entry = record.name("key"), record.object("value")
        annotations = entry.object("annotations")
        label, (start, end) = annotations.text("label"), _segment(annotations)
        split = entry.maybe_name("subset")
        details = {**entry.rest(), **annotations.rest(), **record.rest()}
    else:
        video, label, split = record.name("youtube_id"), record.text("label"), record.maybe_name("split")
        start, end = seconds(record, "time_start"), seconds(record, "time_end")
        details = record.rest()
        if end < start:
            raise record.wrong("time_end", f"a time not before time_start, {start:g}")
    url = f"https://www.youtube.com/watch?v={video}"
    yield Item(
        key=f"{video}/{start:g}-{end:g}",
        content=label,
        origin=pb.ORIGIN_CRAWLED,
        modality=pb.MODALITY_VIDEO,
        source=url,
        media=(Part(uri=url, start_seconds=start, end_seconds=end),),
        labels={"label": label, "split": split},
        details=details,
    )


def _segment(annotations: Fields) -> tuple[float, float]:
    start, end = annotations.items("segment", 2, 2)
    segment = Fields({"start": start, "end": end}, annotations.path("segment"))
    begun, ended = seconds(segment, "start"), seconds(segment, "end")
    if ended < begun:
        raise segment.wrong("end", f"a time not before the start, {begun:g}")
    return begun, ended


def _source(record: Fields, name: str, source: str) -> str:
    """An address that is put together of several fields, of which `name` is the longest."""
    if not is_line(source, ADDRESS_CHARACTERS_MAX):
        raise record.wrong(name, f"an address of at most {ADDRESS_CHARACTERS_MAX} characters in all")
    return source


def _licences(names: list[str]) -> str:
    """All of them in one, as SPDX has it."""
    whole = " AND ".join(names)
    return whole if len(whole) <= ID_CHARACTERS_MAX else "LicenseRef-several"
