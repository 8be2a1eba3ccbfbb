"""What a policy is: a pure question about rendered manifests, whose answers are findings."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.support.manifests.cluster import Cluster, Object, name_of

Finding = tuple[Object | None, str]
"""An object, or None where something is missing altogether, and what is wrong with it."""
Policy = Callable[[Cluster], Iterator[Finding]]

ALWAYS: Final[dict[str, Policy]] = {}
"""What all keeps to that can be applied, also without the service in it."""
EVERYWHERE: Final[dict[str, Policy]] = {}
"""What every overlay with the service in it keeps to."""
PRODUCTION: Final[dict[str, Policy]] = {}
"""What one keeps to, beyond these, where others reach it."""
BEFORE_APPLYING: Final[dict[str, Policy]] = {}
"""What is still to be filled in when an overlay is to be applied."""


@dataclass(frozen=True, slots=True, order=True)
class Broken:
    """A policy that is not kept."""

    policy: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} [{self.policy}]"


def always(policy: Policy) -> Policy:
    """Enter a policy for all that can be applied."""
    ALWAYS[policy.__name__] = policy
    return policy


def everywhere(policy: Policy) -> Policy:
    """Enter a policy for every overlay."""
    EVERYWHERE[policy.__name__] = policy
    return policy


def production(policy: Policy) -> Policy:
    """Enter a policy for production."""
    PRODUCTION[policy.__name__] = policy
    return policy


def before_applying(policy: Policy) -> Policy:
    """Enter a policy about what is left to fill in."""
    BEFORE_APPLYING[policy.__name__] = policy
    return policy


def broken(objects: Iterable[Object], *groups: dict[str, Policy], stumbling: bool = False) -> list[Broken]:
    """Every finding of the policies in `groups` about these objects.

    Args:
        stumbling: an exception of a policy is a finding, too; else it is raised.
    """
    cluster = Cluster(list(objects))
    found = []
    for name, policy in (each for group in groups for each in group.items()):
        try:
            for item, what in policy(cluster):
                found.append(Broken(name, name_of(item) if item else "the overlay", what))
        except Exception as error:
            if not stumbling:
                raise
            found.append(Broken(name, "the overlay", f"not checked, something in it is not as expected: {error!r}"))
    return sorted(found)
