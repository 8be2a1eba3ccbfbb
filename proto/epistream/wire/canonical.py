"""The canonical content of a submission, and its fingerprint: what makes two contents the same, byte for byte.

Text is put into Unicode's composed form (NFC) and every run of white space becomes one space. Nothing else is
touched: case and punctuation carry meaning (`mW` and `MW`, `5.0` and `50`), and so do the compatibility characters
that NFKC would fold (`m²` and `m2`). Code keeps its white space but for line ends and the ends of lines. An image or
video is its digest (its address where there is no digest), the part of it that is meant, and its caption. An answer is
another answer where its prompt is another, and code is other code where its tests are others.
"""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from epistream.v1 import knowledge_pb2 as pb

_LINE_END: Final = re.compile(r"\r\n|\r|\n")


def canonical_text(text: str) -> str:
    r"""Natural language in canonical form.

    >>> canonical_text("  The limit is\n\t5 mg. ")
    'The limit is 5 mg.'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def canonical_code(code: str) -> str:
    r"""Source code in canonical form.

    >>> canonical_code("def f():\r\n    return 1  \r\n\r\n")
    'def f():\n    return 1'
    """
    lines = _LINE_END.split(unicodedata.normalize("NFC", code))
    return "\n".join(line.rstrip(" \t\f\v") for line in lines).rstrip().lstrip("\n")


def canonical_content(
    modality: pb.Modality.ValueType,
    content: str,
    media: Sequence[pb.Media] = (),
    prompt: str = "",
    tests: pb.Tests | None = None,
) -> bytes:
    """The canonical bytes of a content.

    The first byte is the modality, so that a text and a code of the same characters are two contents. Parts are
    separated by a zero byte, which no part contains: decode refuses it. A part that is empty is left out where all that
    follow are empty too. Tests are their SHA-256, in hexadecimal digits.
    """
    text = canonical_code(content) if modality == pb.MODALITY_CODE else canonical_text(content)
    tested = hashlib.sha256(tests.SerializeToString(deterministic=True)).hexdigest() if tests is not None else ""
    parts = [text, "\n".join(media_identity(one) for one in media), canonical_text(prompt), tested]
    while len(parts) > 1 and not parts[-1]:
        del parts[-1]
    return b"\0".join([bytes([modality]), *(part.encode() for part in parts)])


def media_identity(media: pb.Media) -> str:
    """What tells one image or video from another: digest, or address where there is none, role, and part of it.

    >>> media_identity(pb.Media(uri="https://a.example/1.mp4", role="source"))
    'https://a.example/1.mp4 source'
    """
    name = f"{media.digest or media.uri} {media.role}".rstrip()
    if not (media.HasField("start") or media.HasField("end")):
        return name
    start, end = (media.HasField(field) and getattr(media, field).ToJsonString() for field in ("start", "end"))
    return f"{name} {start or ''}-{end or ''}"


def fingerprint(
    modality: pb.Modality.ValueType,
    content: str,
    media: Sequence[pb.Media] = (),
    prompt: str = "",
    tests: pb.Tests | None = None,
) -> bytes:
    """SHA-256 of the canonical content, 32 bytes."""
    return hashlib.sha256(canonical_content(modality, content, media, prompt, tests)).digest()


def media_of(said: pb.Submission | pb.Knowledge) -> list[pb.Media]:
    """All images, videos and parts of them that something is about, the first first."""
    return [*([said.media] if said.HasField("media") else ()), *said.further_media]
