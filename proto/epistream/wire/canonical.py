"""The canonical content of a submission, and its fingerprint: what makes two contents the same, byte for byte.

Text is put into Unicode's composed form (NFC) and every run of white space becomes one space. Nothing else is
touched: case and punctuation carry meaning (`mW` and `MW`, `5.0` and `50`), and so do the compatibility characters
that NFKC would fold (`m²` and `m2`). Code keeps its white space but for line ends and the ends of lines. An image or
video is its digest (its address where there is no digest) and its caption.
"""

import hashlib
import re
import unicodedata
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


def canonical_content(modality: pb.Modality.ValueType, content: str, media: pb.Media | None = None) -> bytes:
    """The canonical bytes of a content.

    The first byte is the modality, so that a text and a code of the same characters are two contents. Parts are
    separated by a zero byte, which no part contains: decode refuses it.
    """
    text = canonical_code(content) if modality == pb.MODALITY_CODE else canonical_text(content)
    parts = [bytes([modality]), text.encode()]
    if media is not None and (media.digest or media.uri):
        parts.append((media.digest or media.uri).encode())
    return b"\0".join(parts)


def fingerprint(modality: pb.Modality.ValueType, content: str, media: pb.Media | None = None) -> bytes:
    """SHA-256 of the canonical content, 32 bytes."""
    return hashlib.sha256(canonical_content(modality, content, media)).digest()
