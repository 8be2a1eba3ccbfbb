"""`kubectl` commands as documents have them: whether kubectl takes their flags, and which objects they name."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.manifests.cluster import Cluster, namespace_of
from tests.support.manifests.secrets import SECRETS

_OBJECT_VERBS: Final = frozenset({"annotate", "delete", "describe", "get", "label", "scale"})
"""What takes a kind and a name as two words."""
_FLAGS_WITH_A_VALUE: Final = frozenset({"-n", "-o", "-f", "-k"})
_PLACEHOLDER: Final = re.compile(r"\$|^YOUR")
_ENDS: Final = frozenset({"|", ">", "&", "&&", ";"})
OF_OTHERS: Final = frozenset({"certificate"})
"""Kinds of operators that a cluster may have, and of which nothing is in the manifests: cert-manager."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """One command.

    Attributes:
        arguments: without `kubectl`, and without what its pod is to run.
        run_in_the_pod: what stands behind `--`.
    """

    arguments: tuple[str, ...]
    run_in_the_pod: tuple[str, ...]

    @classmethod
    def of(cls, line: str) -> "Kubectl":
        """The command on a line of a shell, up to where another begins or its output goes elsewhere."""
        words = shlex.split(line, comments=True)
        words = words[words.index("kubectl") + 1 :]
        words = words[: next((n for n, word in enumerate(words) if word in _ENDS), len(words))]
        where = words.index("--") if "--" in words else len(words)
        return cls(tuple(words[:where]), tuple(words[where + 1 :]))

    @property
    def namespace(self) -> str:
        """What -n says; empty when it is not there."""
        return self.arguments[self.arguments.index("-n") + 1] if "-n" in self.arguments else ""

    def refusal(self) -> str:
        """What kubectl has against the verb and its flags; empty when it takes them."""
        kubectl = Path(sys.executable).with_name("kubectl")
        done = subprocess.run([kubectl, *self.arguments, "--help"], capture_output=True, text=True, check=False)
        return done.stderr.strip() if done.returncode else ""

    def named(self) -> Iterator[tuple[str, str]]:
        """Kind, in lower case and singular, and name of each object that it is about; an empty name means all."""
        verb, *words = self._words()
        for word in [*words, *(flag.partition("=")[2] for flag in self.arguments if flag.startswith("--from="))]:
            kind, slash, name = word.partition("/")
            if slash and re.fullmatch(r"[a-z]+", kind):
                yield kind.removesuffix("s"), name
        if verb == "logs" and words and "/" not in words[0]:
            yield "pod", words[0]
        if verb in _OBJECT_VERBS and words and "/" not in words[0]:
            yield words[0].removesuffix("s"), words[1] if len(words) > 1 else ""

    def made(self) -> tuple[str, str] | None:
        """Kind and name of the object that it makes, if it is one that makes one."""
        verb, *words = self._words()
        if verb != "create":
            return None
        return words[0], words[-1]

    def _words(self) -> list[str]:
        words, skip = [], False
        for word in self.arguments:
            if not skip and not word.startswith("-"):
                words.append(word)
            skip = word in _FLAGS_WITH_A_VALUE
        return words


def objects_in(cluster: Cluster) -> set[tuple[str, str]]:
    """Kind and name of all that there is when an overlay is applied: what controllers make of it, too."""
    there = {(item["kind"].lower(), item["metadata"]["name"]) for item in cluster.objects}
    there |= {("persistentvolumeclaim", claim) for claim in cluster.store_claims()}
    there |= {("secret", name) for name in SECRETS}
    for item in cluster.of("StatefulSet"):
        there |= {("pod", f"{item['metadata']['name']}-{number}") for number in range(item["spec"]["replicas"])}
    # A CronJob makes jobs, whose names nobody knows before.
    return there | {("job", "") for _ in cluster.of("CronJob")} | {(kind, "") for kind, _ in there}


def strangers(command: Kubectl, there: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a command names and is not there; names that an operator fills in are left out."""
    return [
        (kind, name)
        for kind, name in command.named()
        if kind not in OF_OTHERS and not _PLACEHOLDER.search(name) and (kind, name) not in there
    ]


def namespaces_in(cluster: Cluster) -> set[str]:
    """The namespaces that objects are in."""
    return {namespace_of(item) for item in cluster.objects}
