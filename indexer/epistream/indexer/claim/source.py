"""Source code to facts: the sequence of its tokens, line by line, for any language that looks a little like Python.

    total = foo( a,b )  # both
    ⏎  total  =  foo  (  a  ,  b  )  # both

The beginning of a line is a fact (its indentation), and so is each comment: it may be a claim. Blank lines and the ends
of lines are not. Spaces inside a line are left out where they are form in every language that we know of: around a
comma, inside brackets, and around an operator that has one on both sides, in a line that is an expression. They stay
where a shell would read something else: `rm -rf / tmp` is not `rm -rf /tmp`; and where they stay, two are not one and a
tab is no space, for it may be a text without quotes: a here-document, a scalar of YAML.
"""

import re
import unicodedata
from typing import Final, NamedTuple

from epistream.indexer.claim.facts import ANY, LINE, Facts

_TOKEN: Final = re.compile(
    r"""
      (?P<line>\n[ \t\n]*)
    | (?P<space>[ \t\f\v]+)
    | (?P<comment>\#[^\n]*)
    | (?P<text>
          "{3} (?: [\s\S]*?"{3} | [\s\S]* )                    # one that is not closed takes the rest
        | '{3} (?: [\s\S]*?'{3} | [\s\S]* )
        | " (?: [^"\\\n] | \\. )* "? | ' (?: [^'\\\n] | \\. )* '? | ` [^`]* `?
      )
    | (?P<word>\w+ (?: \.\d+ )?)
    | (?P<comma>[,;])
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<operator>
          \*\*=? | //=? | >>=? | <<=? | [-+*/%&|^@=<>!:]= | -> | => | && | \|\| | \+\+ | -- | :: | \.{2,3}
        | [^\n]
      )
    """,
    re.VERBOSE,
)
_EXPRESSION: Final = re.compile(r"[=(\[{]")
_STATEMENTS: Final = frozenset(["assert", "elif", "raise", "return", "yield"])
_SHELL: Final = re.compile(r"[$`|]|\d>|^(?:\[|test)")


class _Token(NamedTuple):
    kind: str
    text: str
    space: str
    """The white space before it."""

    @property
    def is_spaced(self) -> bool:
        """Whether white space stands before it."""
        return bool(self.space)


def read_source(code: str) -> Facts:
    """The facts of source code. Pure, never raises, and takes time in proportion to the code's length."""
    code = unicodedata.normalize("NFC", code).replace("\r\n", "\n").replace("\r", "\n")
    keys: list[str] = []
    shown: list[str] = []
    for line in _lines("\n" + code):
        indentation, *tokens = line
        keys.append(LINE + indentation.text)
        keys += _line_keys(tokens)
        shown.append(LINE)
        shown += [token.text for token in tokens]
    return Facts(keys, shown, ANY * len(keys))


def _lines(code: str) -> list[list[_Token]]:
    """The tokens of each line that has any; the first is its indentation."""
    lines: list[list[_Token]] = []
    space = ""
    for match in _TOKEN.finditer(code):
        kind, text = match.lastgroup or "", match[0]
        if kind == "line":
            lines.append([_Token(kind, text.rpartition("\n")[2], "")])
        elif kind != "space":
            lines[-1].append(_Token(kind, text.rstrip() if kind == "comment" else text, space))
        space = text if kind == "space" else ""
    return [line for line in lines if len(line) > 1]


def _line_keys(tokens: list[_Token]) -> list[str]:
    """The tokens of a line, each with a space before it where one stands and counts."""
    text = "".join(token.text for token in tokens)
    is_expression = (
        _EXPRESSION.search(text) or tokens[0].text in _STATEMENTS or tokens[-1].text == ":"
    ) and not _SHELL.search(text)
    is_loose = [_is_loose(tokens, at, is_expression=bool(is_expression)) for at in range(len(tokens))]
    keys = []
    for at, token in enumerate(tokens):
        before = tokens[at - 1]
        is_free = at == 0 or is_loose[at] or is_loose[at - 1] or before.kind == "open" or token.kind == "close"
        space = " " if token.space and token.kind == "comment" else token.space
        keys.append(token.text if is_free else space + token.text)
    return keys


def _is_loose(tokens: list[_Token], at: int, *, is_expression: bool) -> bool:
    """Whether the spaces on both sides of a token are form."""
    token = tokens[at]
    if token.kind == "comma":
        return True
    if token.text == ":" and at and tokens[at - 1].kind == "text":
        return True  # `"key": value`
    if token.kind != "operator" or not is_expression or at + 1 == len(tokens):
        return False
    return token.is_spaced == tokens[at + 1].is_spaced
