"""Source code to facts: the sequence of its tokens, line by line, for any language that looks a little like Python.

    total = foo( a,b )  # both
    ⏎  total  =  foo  (  a  ,  b  )  # both

The beginning of a line is a fact (its indentation), and so is each comment: it may be a claim. The ends of lines are
not, nor are blank lines, unless they may be in a text: a here-document, a scalar of YAML, a string of several lines,
the body of an HTTP message. Spaces inside a line are left out where they are form: around a comma, inside brackets, and
around an operator that has one on both sides, in a line that is an expression of a language like Python, C or JSON.
They stay where a shell, Lisp or a table would read something else: `rm -rf / tmp` is not `rm -rf /tmp`, nor
`cp {a, b} c` `cp {a,b} c`, nor `(f a-b)` `(f a - b)`; and where they stay, two are not one and a tab is no space, for
it may be a text without quotes: a here-document, a scalar of YAML.

One line does not tell the language: `FOO = bar` is an assignment in Python and in a shell the command FOO, and `a - b`
in a file of settings is a text. So spaces are form if some line is surely one of a program, else in brackets with
numbers and strings alone; and nowhere if there may be a text without quotes.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Final, NamedTuple

from epistream.indexer.claim.facts import ANY, LINE, Facts
from epistream.indexer.claim.words import words

_TOKEN: Final = re.compile(
    r"""
      (?P<word>\d[\d_]* (?: \.\d* )? [eE][+-]\d+ | 0[xX][\da-fA-F.]+[pP][+-]\d+ | \w+ (?: \.\d+ )?)
    | (?P<space>[ \t\f\v]+)
    | (?P<line>\n[ \t\n]*)
    | (?P<comment>\#[^\n]* | // (?: (?<=[\n;{},]//) | (?<=[;{},]\ //) | (?<=[;{},]\ {2}//) ) [^\n]*)
    | (?P<text>
          "{3} (?: [\s\S]*?"{3} | [\s\S]* )                    # one that is not closed takes the rest
        | '{3} (?: [\s\S]*?'{3} | [\s\S]* )
        | " (?: [^"\\\n] | \\. )* "? | ' (?: [^'\\\n] | \\. )* '? | ` [^`]* `?
        | / (?: (?<=[=(,:!\[?&|{};~>]/) | (?<=[=(,:!\[?&|{};~>]\ /) | (?<=return\ /) )
          (?![/*\s]) (?: [^/\\\n] | \\. )+ /                 # a pattern, and no division
      )
    | (?P<comma>[,;])
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<operator>
          \*\*=? | //=? | /\* | \*/ | \?[.?] | >>=? | <<=? | <- | [-+*/%&|^@=<>!:]= | -> | => | && | \|\| | \+\+ | --
        | :: | \.{2,3}
        | [^\n]
      )
    """,
    re.VERBOSE,
)
_EXPRESSION: Final = re.compile(r"[=(\[{]")
_STATEMENTS: Final = frozenset(["assert", "elif", "from", "import", "raise", "return", "yield"])
_OTHER: Final = re.compile(r"[$`|]|\d>|</|calc\(|/\*|[=!]~|%[wWiIqQ][(\[{<]|~\w[(\[{<]|(?<![\w.])q[qrwx]?[(\[{<]")
"""What only lines have in which spaces count: of a shell, of HTML, of CSS, with a comment, with a text as `%w[a b]`."""
_NO_PROGRAM: Final = re.compile(r"\A#!(?![^\n]*(?:python|node|ruby))|^(?:@@|\+\+\+|---) ", re.MULTILINE)
"""What a script of a shell begins with, and what tells a diff."""
_OPENINGS: Final = words("""
    assert async class const def elif enum extends fn from func import private protected public raise static struct
    throw unsigned var void yield
""")
"""What a line of a program may begin with, and none of a shell or of a file of settings; `function` and `let` may."""
_BRANCHES: Final = words("case elif else except for if match switch while with")
"""What a line that ends in a colon, or has brackets and ends in a brace, begins with in a program."""
_CONSTANTS: Final = words("False None True false nil null true")
_POINTS: Final = frozenset(["-", "*", "+", ">"])
"""What a point of a list, a quotation or a line of a comment begins with, and a space."""
_NO_BEGINNING: Final = frozenset(["<", "/", "//", "/*", "--", "%", ";", ">>"])
"""What only a tag, a pattern, a comment and a session begin with."""
_SHELL_WORDS: Final = frozenset(["done", "esac", "fi", "then"])
_BEFORE_TEST: Final = frozenset(["!", "&&", ";", "[", "do", "elif", "if", "until", "while"])
"""What may stand before the test of a shell: `if [ a = b ]`, `! [[ a = b ]]`."""
_BLOCKS: Final = frozenset(["else", "except", "finally", "try"])
_SCALAR: Final = re.compile(r"[:-][ \t]+(?:[!&]\S+[ \t]+)?[|>][-+\d]*[ \t]*(?:#[^\n]*)?\n")
"""The line before a text in YAML."""
_KEYWORDS: Final = words("""
    and as assert async await bool char class const def del double elif else enum except extends final float fn for
    from func function global if implements import in int is lambda let long match mut new nonlocal not of or private
    protected pub public raise return static string struct throw try typeof unsigned var void while with yield
""")
"""Words that may have another word beside them in an expression or a statement, of one language or another."""
_NEVER_LOOSE: Final = frozenset([".", "..", "..."])
"""What is another thing with spaces in some language: `Red .. Blue` in Haskell."""
_QUOTES: Final = frozenset("\"'")
_ENDS_OPERAND: Final = frozenset(["word", "text", "close"])
_BEGINS_OPERAND: Final = frozenset(["word", "text", "open"])

# Where in a line spaces are form.
_NOWHERE: Final = 0
_IN_DATA: Final = 1
_ANYWHERE: Final = 2


class _Token(NamedTuple):
    kind: str
    text: str
    space: str
    """The white space before it."""


_text = attrgetter("text")


def read_source(code: str) -> Facts:
    """The facts of source code. Pure, never raises, and takes time in proportion to the code's length."""
    code = unicodedata.normalize("NFC", code).replace("\r\n", "\n").replace("\r", "\n")
    keys: list[str] = []
    shown: list[str] = []
    lines, is_open = _lines("\n" + code)
    has_text = is_open or _has_text(code)
    free = _free(code, lines, has_text=has_text)
    for (indentation, *tokens), where in zip(lines, free, strict=True):
        keys.append(LINE + (indentation.space if has_text else "") + indentation.text)
        keys += _line_keys(tokens, where)
        shown.append(LINE)
        shown += [token.text for token in tokens]
    return Facts(keys, shown, ANY * len(keys))


def has_free_spaces(code: str) -> bool:
    """Whether a piece of code is one line in which spaces are form."""
    lines, is_open = _lines("\n" + code)
    if len(lines) != 1:
        return False
    (where,) = _free(code, lines, has_text=is_open or _has_text(code))
    is_bracket = lines[0][1].kind == "open" and lines[0][-1].kind == "close"
    return where == _ANYWHERE or (where == _IN_DATA and is_bracket)


def _free(code: str, lines: list[list[_Token]], *, has_text: bool) -> list[int]:
    """Where in each line spaces are form."""
    if has_text or _NO_PROGRAM.search(code) or any(map(_is_heading, lines, [*lines[1:], []])):
        return [_NOWHERE] * len(lines)
    bodies = [tokens for _, *tokens in lines]
    are_expressions = [_is_expression(tokens) for tokens in bodies]
    if any(is_one and _is_of_program(tokens) for is_one, tokens in zip(are_expressions, bodies, strict=True)):
        return [_ANYWHERE if is_one else _NOWHERE for is_one in are_expressions]
    return [
        _IN_DATA if is_one and _is_data(tokens) else _NOWHERE
        for is_one, tokens in zip(are_expressions, bodies, strict=True)
    ]


def _is_heading(line: list[_Token], below: list[_Token]) -> bool:
    """Whether there may be texts by a line: a key of YAML, a target of make, a section of settings, a tag, `fi`."""
    indentation, *tokens = line
    first, last = tokens[0], tokens[-1]
    if len(tokens) == 1 and first.text in _SHELL_WORDS:
        return True
    if last.text == ":" and first.kind == "word" and first.text not in _BLOCKS:
        return all(token.text in "-./" or token.kind == "word" for token in tokens[:-1]) and not _has_gap(tokens)
    if first.text == "[" and last.text == "]":
        return all(token.text in ".-:/" or token.kind == "word" for token in tokens[1:-1]) and len(tokens) > 2
    if first.kind == "word" and below and len(below[0].text) > len(indentation.text) and _is_entry(tokens):
        return _depth(tokens) == 0  # what is under an entry of YAML belongs to its text
    return first.text == "<" and len(tokens) > 1 and not tokens[1].space


def _has_gap(tokens: list[_Token]) -> bool:
    return any(token.space for token in tokens[1:])


def _is_of_program(tokens: list[_Token]) -> bool:
    """Whether an expression or a statement is surely one of a program: a definition, a branch, a call."""
    first, last = tokens[0].text, tokens[-1].text
    if first in _OPENINGS and len(tokens) > 1 and tokens[1].text != ":":
        return True
    has_block = len(tokens) > 2 and (last == ":" or (last == "{" and tokens[1].text == "("))
    if first in _BRANCHES and has_block:  # `while :` is one of a shell
        return True
    return any(_is_call(tokens, at) for at, token in enumerate(tokens) if token.text == "(")


def _is_call(tokens: list[_Token], at: int) -> bool:
    """Whether a bracket opens the arguments of a call. `f()` may define a function of a shell."""
    if at == 0 or at + 1 == len(tokens) or tokens[at].space or tokens[at - 1].kind != "word":
        return False
    return tokens[at + 1].text != ")" or (at > 1 and tokens[at - 2].kind in ("operator", "open", "comma"))


def _is_data(tokens: list[_Token]) -> bool:
    """Whether a line has but brackets, numbers and strings, perhaps behind a name and ` =`: `x = [1, 2]`, `{"a": 1}`.

    With other words it may be a pattern, and without a space before `=` be one of a shell: `x = [a, b]`, `A=[1, 2]`.
    """
    is_named = len(tokens) > 2 and tokens[0].kind == "word" and tokens[1].text == "=" and tokens[1].space != ""
    return all(
        token.kind not in ("word", "operator")
        or token.text[0].isdigit()
        or token.text in _CONSTANTS
        or token.text == ":"
        or (token.text == "-" and not following.space)
        for token, following in pairwise([*(tokens[2:] if is_named else tokens), tokens[-1]])
    )


def _depth(tokens: list[_Token]) -> int:
    return list(_depths(tokens))[-1]


def _depths(tokens: list[_Token]) -> Iterator[int]:
    """How many brackets of its line each token stands in; those that are closed stand in themselves no more."""
    return accumulate((token.kind == "open") - (token.kind == "close") for token in tokens)


def _lines(code: str) -> tuple[list[list[_Token]], bool]:
    """The tokens of each line that has any, and whether a string was open where its line ends.

    The first of each line is its indentation, and the space of that the blank lines before it.
    """
    lines: list[list[_Token]] = []
    space, is_open = "", False
    for match in _TOKEN.finditer(code):
        kind, text = match.lastgroup or "", match[0]
        if kind == "line":
            lines.append([_Token(kind, text.rpartition("\n")[2], "\n" * (text.count("\n") - 1) if lines else "")])
        elif kind != "space":
            lines[-1].append(_Token(kind, text.rstrip() if kind == "comment" else text, space))
            if kind == "text":
                is_open = is_open or (text[0] in _QUOTES and (len(text) == 1 or text[-1] != text[0]))
        space = text if kind == "space" else ""
    return [line for line in lines if len(line) > 1], is_open


def _has_text(code: str) -> bool:
    """Whether there may be a here-document, a scalar of YAML, or the body of an HTTP message."""
    return "<<" in code or "HTTP/" in code.partition("\n")[0] or _SCALAR.search(code) is not None


def _line_keys(tokens: list[_Token], where: int) -> list[str]:
    """The tokens of a line, each with a space before it where one stands and counts."""
    is_expression = where != _NOWHERE
    is_loose = [_is_loose(tokens, at, is_expression=is_expression) for at in range(len(tokens))]
    if where == _IN_DATA or (is_expression and "=" in map(_text, tokens)):
        _tighten(tokens, is_loose, everything=where == _IN_DATA)
    keys = []
    for at, token in enumerate(tokens):
        before = tokens[at - 1]
        is_inside = is_expression and (before.kind == "open" or token.kind == "close")
        is_free = at == 0 or is_loose[at] or is_loose[at - 1] or is_inside
        space = " " if token.space and token.kind == "comment" else token.space
        keys.append(token.text if is_free else space + token.text)
    return keys


def _tighten(tokens: list[_Token], is_loose: list[bool], *, everything: bool) -> None:
    """Have spaces count in no brackets: all of them, or those at a comma behind `=` without spaces: `HOSTS=a, b`."""
    is_assigned = False
    for at, (token, depth) in enumerate(zip(tokens, _depths(tokens), strict=True)):
        is_kept = token.kind == "comment" or (token.text == ":" and tokens[at - 1].kind == "text")  # `"key": value`
        if depth == 0 and not is_kept and (everything or (token.text == "," and is_assigned)):
            is_loose[at] = False
        is_assigned = is_assigned or (depth == 0 and token.text == "=" and not token.space)


def _is_expression(tokens: list[_Token]) -> bool:
    """Whether a line is an expression or a statement of a language in which spaces are form.

    The words of a command, of Lisp and of a table stand side by side; those of an expression do not.
    """
    text, first = "".join(map(_text, tokens)), tokens[0]
    if not (_EXPRESSION.search(text) or first.text in _STATEMENTS or tokens[-1].text == ":"):
        return False
    if _OTHER.search(text) or not _SHELL_WORDS.isdisjoint(map(_text, tokens)):
        return False
    if (
        _is_point(tokens)
        or (first.text == "(" and "," not in text)  # a list of Lisp
        or ("[" in text and _is_test(tokens))
        or (first.kind == "word" and _is_entry(tokens))
    ):
        return False
    is_block = tokens[-1].text == "{"  # `class A {`
    return not any(_are_apart(one, other) for one, other in pairwise(tokens[:-1] if is_block else tokens))


def _is_point(tokens: list[_Token]) -> bool:
    """Whether a line begins as none of a program does: `- a=b`, `1. a=b`, `<a>`, `/a, b/`, `// a=b`."""
    first = tokens[0]
    if len(tokens) > 1 and first.text.isdigit() and tokens[1].text in (".", ")"):
        return True
    return first.text in _NO_BEGINNING or (first.text in _POINTS and len(tokens) > 1 and tokens[1].space != "")


def _is_test(tokens: list[_Token]) -> bool:
    """Whether a line has a test of a shell: `if [ a = b ]`, `[[ a = b ]]`."""
    brackets = [at for at, text in enumerate(map(_text, tokens[:-1])) if text == "["]
    return any(tokens[at + 1].space and (at == 0 or tokens[at - 1].text in _BEFORE_TEST) for at in brackets)


def _is_entry(tokens: list[_Token]) -> bool:
    """Whether a line is one of YAML or of CSS, where what stands behind the colon may be a text: `title: foo(a, b)`."""
    at = 0
    while at + 3 < len(tokens) and tokens[at + 1].text in ("-", ".", "/"):  # `font-size`, `spring.name`
        at += 2
    if at + 2 >= len(tokens) or tokens[at + 1].text != ":":
        return False
    return tokens[at].text.isidentifier() and tokens[at].text not in _BLOCKS


def _are_apart(one: _Token, other: _Token) -> bool:
    """Whether two tokens stand beside each other as in no expression: `IFS=, read`, `echo a`, `cp {a,b}`."""
    if one.text == "=" and other.kind == "comma":
        return True
    if one.text == "/" and one.space and not other.space:
        return True  # `if /a, b/`
    if (one.text == "--" and one.space and other.space) or (one.kind == "comma" and other.text == "%"):
        return True  # a comment in SQL, Lua and Haskell, or in Matlab
    if one.text == "\\" and other.kind == "word" and not other.space:
        return True  # `\section{a, b}`
    if one.kind == "text" and one.text[0] in _QUOTES and other.kind == "word" and not other.space:
        return True  # `f"{d["a, b"]}"`
    are_operands = one.kind in _ENDS_OPERAND and other.space != "" and other.kind in _BEGINS_OPERAND
    is_body = one.kind == "close" and other.text == "{"  # `f() { }`
    return are_operands and not is_body and _KEYWORDS.isdisjoint([one.text, other.text])


def _is_loose(tokens: list[_Token], at: int, *, is_expression: bool) -> bool:
    """Whether the spaces on both sides of a token are form."""
    token = tokens[at]
    if token.text == ":" and at and tokens[at - 1].kind == "text":
        return is_expression or at == 1  # `"key": value`
    if token.kind == "comma":
        return is_expression
    if token.kind != "operator" or token.text in _NEVER_LOOSE or not is_expression or at + 1 == len(tokens):
        return False
    return bool(token.space) == bool(tokens[at + 1].space)
