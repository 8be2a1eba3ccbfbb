"""Cuts prose into tokens: words, numbers, addresses, pieces of code, symbols. White space is gone after it."""

import re
import unicodedata
from typing import Final

from epistream.indexer.claim.measures import MONTHS
from epistream.indexer.claim.quantities import is_numeral
from epistream.indexer.claim.words import DOTTED, FUNCTION_WORDS

_FOLDED: Final = {
    **dict.fromkeys("\u2018\u2019\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011", "-"),
    **dict.fromkeys("\u00ad\ufeff", ""),
    "\u2026": "...",
    "\u00b5": "\u03bc",
    "℃": "°C",
    "℉": "°F",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "½": " 1/2",
    "¼": " 1/4",
    "¾": " 3/4",
}
"""Characters with a plainer form: quotation marks, hyphens, the micro sign, ligatures of symbols. Nothing that NFKC
would fold besides: `m²` stays apart from `m2` wherever it is no unit."""
_FOLDS: Final = re.compile(f"[{''.join(_FOLDED)}]")
_THIN_GROUP: Final = re.compile(r"(?<![\d.,])\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})+(?!\d)")
"""The space in `10 000`, where it is one that does not break. A comma there may begin a fraction, where it stands."""
_THIN_SPACE: Final = re.compile(r"[\u00a0\u2009\u202f]")
_FRACTION: Final = re.compile(r"[½¼¾](?=\d)")
_SIGN: Final = re.compile(r"(?!(?<=\d)\u2212\d|(?<=\s)\u2212\s)\u2212")
"""A minus sign that a hyphen may stand for: not between digits, where that says `to`, nor between spaces, where it is a
dash."""

_QUOTED: Final = re.compile(r"`{3}[\s\S]+?`{3}|``(?:(?!'')[^\n])+?``(?!`)|``|''")
"""Code in two or three back-ticks, which stays, and quotation marks as TeX has them."""

_MARKS: Final = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in {"Mn", "Mc"})
"""The signs that belong to the letter before them, as the vowels of Indic scripts do; no class of `re` has them."""
_LETTER: Final = rf"[\w{_MARKS}\u200c\u200d]"

_TOKEN: Final = re.compile(
    r"""
      [A-Za-z][a-z]*(?=[ ,\n])                                            # most words, first because they are most
    | (?:https?|ftp|file|s3|gs|git|ssh|kafka|postgres|jdbc)://[^\s<>"]*[^\s<>".,;:!?)\]}']
    | [\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}                     # an e-mail address
    | `{3}[\s\S]+?`{3} | ``[^\n]+?`` | `[^`\n]{1,400}`                   # code in back-ticks
    | (?<![\w-])--?[A-Za-z][\w-]*(?:=[^\s,;]+)?                           # --flag=value, -v
    | [A-Za-z]:\\[^\s"<>|]+                                               # C:\path
    | (?<![\w/.])(?:~|\.{1,2})?/[\w@%+~-][\w.@%+~-]*(?:/[\w.@%+~-]*)*     # /path, ./path
    | (?<!\S)\.[A-Za-z_]\w*                                               # .env
    | [A-Za-z_]\w*(?:\.\w+)*                                              # call(of, nested(arguments))
      \([^()\n]{0,200}(?:\([^()\n]{0,100}\)[^()\n]{0,100}){0,8}\)
    | \d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?(?![\w-])          # 2020-05-17T09:15Z
    | (?:(?<![\w.)\]%"'])[-+])?                                           # a number, with a sign and a suffix perhaps
      (?:\d+(?:[.,:/'_]\d+)*|(?<![\w.])\.\d+)(?:[eE][+-]?\d+)?\w*
    | {letter}+(?:[-.&]{letter}+|'(?![sS]\b){letter}+)*                   # a word
    | '(?i:s|ll|re|ve|m|d)\b                                              # the end of a contraction or possessive
    | \s[:;](?=\s) | [:;!]\w+                                             # no end of a sentence: ` : `, `a:b`, `a!b`
    | \s[-\u2013\u2014]+(?=\s) | \u2014+ | --+                            # a dash; the space tells it from a hyphen
    | \s!+(?=\w)                                                          # `!done`, where no sentence ends
    | \.{2,} | [!?]{1,8}(?=[\s"')\]]|$) | [=!<>]=+ | [-=]> | <- | ::      # runs of symbols
    | [^\w\s]                                                             # any other symbol
    """.replace("{letter}", _LETTER),
    re.VERBOSE,
)

_DOTTED: Final = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_ORDINAL_OR_DECADE: Final = re.compile(r"\d+(?:ST|ND|RD|TH)|\d+0S")
_KEPT_CAPITALS: Final = frozenset(["US", "AIDS", *(month for month in MONTHS if month.isupper())])
"""The words that are surely, or may well be, another word in small letters."""
_ABBREVIATIONS_MAX: Final = 2
_ABBREVIATION_MAX: Final = 6
_SYMBOL_LETTERS_MAX: Final = 3
"""A word of at most so many letters behind a number may be a unit's symbol."""


def tokens_of(text: str) -> list[str]:
    """The tokens of a text. A text all in capitals is put into small letters, where that changes no meaning."""
    if not text.isascii():
        text = _folded(unicodedata.normalize("NFC", text))
    if "``" in text or "''" in text:
        text = _QUOTED.sub(lambda match: match[0] if len(match[0]) > 2 else '"', text)
    tokens: list[str] = _TOKEN.findall(text)
    if is_shouted(text):
        return [token if _keeps_capitals(tokens, at) else token.lower() for at, token in enumerate(tokens)]
    return tokens


def _folded(text: str) -> str:
    """A text with the plainer forms of its characters."""
    if _THIN_SPACE.search(text):
        text = _THIN_GROUP.sub(lambda match: _THIN_SPACE.sub("", match[0]), text)
    text = _FOLDS.sub(lambda match: _FOLDED[match[0]], _FRACTION.sub(r"\g<0> ", text))
    return _SIGN.sub("-", text) if "\u2212" in text else text


def is_shouted(text: str) -> bool:
    """Whether a text is all in capitals. One or two short words may be abbreviations: `CO`, `PH 5`."""
    if not text.isupper():
        return False
    words = text.split(maxsplit=_ABBREVIATIONS_MAX)
    return len(words) > _ABBREVIATIONS_MAX or any(len(word) > _ABBREVIATION_MAX for word in words)


def is_dotted(token: str) -> bool:
    """Whether a token is an abbreviation with full stops, the last one cut off: `U.S`, `e.g`."""
    return _DOTTED.fullmatch(token) is not None


def _keeps_capitals(tokens: list[str], at: int) -> bool:
    """Whether a token of a text in capitals may be something else in small letters: `5 MG`, `US`, `VITAMIN A`, `-V`."""
    token = tokens[at]
    if token == "A":  # noqa: S105
        return at + 1 == len(tokens) or len(tokens[at + 1]) == 1
    if len(token) == 1 or token in _KEPT_CAPITALS or token[0] in "-`":
        return True
    if is_dotted(token):
        return token.lower() not in DOTTED
    if is_numeral(token):
        return _ORDINAL_OR_DECADE.fullmatch(token) is None
    may_be_unit = len(token) <= _SYMBOL_LETTERS_MAX and token.lower() not in FUNCTION_WORDS
    return may_be_unit and at > 0 and is_numeral(tokens[at - 1])
