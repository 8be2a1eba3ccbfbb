"""Reads a Dockerfile: stages and their instructions, as far as ours uses the language."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_KNOWN: Final = frozenset(
    {"ARG", "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
)
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_MOUNT: Final = re.compile(r"--mount=type=cache,target=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line, continuations joined."""

    word: str
    rest: str

    def values(self) -> list[str]:
        """The words of the rest: of a JSON list, or as a shell splits them."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)

    def caches(self) -> tuple[list[str], str]:
        """Of RUN: the folders that are caches while it runs, and the command without saying so."""
        return _MOUNT.findall(self.rest), _MOUNT.sub("", self.rest)


@dataclass(frozen=True, slots=True)
class Stage:
    """What begins with FROM."""

    image: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, word: str) -> Instruction | None:
        """The instruction that holds, of those that replace each other."""
        return next((i for i in reversed(self.instructions) if i.word == word), None)

    def environment(self) -> dict[str, str]:
        """What ENV sets, all told."""
        pairs = [value.partition("=") for i in self.instructions if i.word == "ENV" for value in i.values()]
        return {name: value for name, _, value in pairs}


def stages(text: str, arguments: Mapping[str, str]) -> list[Stage]:
    """The stages of a Dockerfile, with `arguments` for what ARG before the first FROM leaves open.

    Raises:
        ValueError: it uses more of the language than is known here.
    """
    known: dict[str, str] = {}
    found: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.word not in _KNOWN:
            raise ValueError(f"expected one of {', '.join(sorted(_KNOWN))}; found {instruction.word}")
        if instruction.word == "FROM":
            image, _, name = expanded(instruction.rest, known).partition(" AS ")
            found.append(Stage(image, name))
        elif found:
            found[-1].instructions.append(instruction)
        elif instruction.word == "ARG":
            name, _, value = instruction.rest.partition("=")
            known[name] = arguments.get(name, value)
        else:
            raise ValueError(f"expected FROM before {instruction.word}")
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        word, _, rest = line.strip().partition(" ")
        yield Instruction(word, rest.strip())


def expanded(text: str, values: Mapping[str, str]) -> str:
    """`${NAME}` and `$NAME` replaced; what has no value becomes empty, as the engine does it."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)
