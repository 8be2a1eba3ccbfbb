"""The jars of Apache Kafka: which ones, and how they come onto this machine.

`jars.sha256` beside this module names every jar with its SHA-256. They are fetched by jgo into the user's cache,
the first time only, and checked before each use: an interrupted download or a changed file is fetched again, and what
does not match is never run. No dependency is resolved at run time. (Resolving Kafka and its logging back end in one
step would even go wrong: the parent of Log4j names an old kafka-clients, and jgo takes that for Kafka too.)

`python -m epistream.services.kafka.jars` prints the list anew, after a change of the versions below.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epistream.wire.errors import Broken, Unavailable

KAFKA_VERSION: Final = "4.3.1"
_COORDINATES: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka publishes no binding of slf4j 1.7, on which it is, to the Log4j that it brings.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)
_LIST: Final = Path(__file__).with_name("jars.sha256")
_DOWNLOADS_AT_ONCE: Final = 6
_DOWNLOAD_TIMEOUT_SECONDS: Final = 20

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of jars that are here and the number of all, from the thread that asked for them."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar, by its Maven coordinates, and what it must contain."""

    group: str
    artifact: str
    version: str
    sha256: str

    def path(self, cache: Path) -> Path:
        """Where it lies in a Maven repository at `cache`."""
        return cache.joinpath(
            *self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar"
        )

    def is_whole(self, cache: Path) -> bool:
        """Whether it lies in `cache` with the right content."""
        try:
            with self.path(cache).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def listed_jars() -> tuple[Jar, ...]:
    """The jars of the list, in its order."""
    return tuple(_parse(line) for line in _LIST.read_text().splitlines())


def default_cache() -> Path:
    """Where the jars are kept: `epistream/maven` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epistream" / "maven"


def class_path(
    cache: Path | None = None,
    *,
    repositories: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """The jars of Kafka, each checked; those that are missing are fetched first (45 MB, blocking).

    Without a network this works as soon as they were fetched once.

    Args:
        cache: the folder to keep them in; `default_cache()` when None.
        repositories: the Maven repositories by name; when None those of jgo's configuration, then Maven Central.
        progress: told of each jar that was fetched.

    Raises:
        Unavailable: jars are missing and cannot be fetched, or jgo is not installed.
        Broken: a repository delivers something else than the list says.
    """
    cache = cache or default_cache()
    jars = listed_jars()
    if not all(jar.is_whole(cache) for jar in jars):
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "fetch.lock"):
            _fetch([jar for jar in jars if not jar.is_whole(cache)], len(jars), cache, repositories, progress)
    return tuple(jar.path(cache) for jar in jars)


def _fetch(
    missing: list[Jar], total: int, cache: Path, repositories: Mapping[str, str] | None, progress: Progress | None
) -> None:
    if not missing:
        return
    context = _maven(cache, repositories)
    _log.info("Fetching %d jars of Apache Kafka %s into %s, this time only", len(missing), KAFKA_VERSION, cache)
    pool = ThreadPoolExecutor(_DOWNLOADS_AT_ONCE, thread_name_prefix="kafka-jars")
    try:
        here = total - len(missing)
        for fetched in as_completed([pool.submit(_fetch_one, jar, cache, context) for jar in missing]):
            fetched.result()
            here += 1
            if progress:
                progress(here, total)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetch_one(jar: Jar, cache: Path, context: Any) -> None:
    path = jar.path(cache)
    path.unlink(missing_ok=True)  # the rest of an interrupted download, which jgo would take for the jar
    try:
        context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (OSError, RuntimeError) as error:
        raise Unavailable(
            f"{path.name} of Apache Kafka {KAFKA_VERSION} cannot be fetched: {error}. Connect to the network once, "
            "name a mirror in jgo's configuration, or give the address of a Kafka that runs."
        ) from error
    if not jar.is_whole(cache):
        path.unlink()
        raise Broken(
            f"{path.name}, as it was fetched, is not the jar that Epistream was tested with: its SHA-256 differs. It "
            "was removed, and nothing was run."
        )


def _maven(cache: Path, repositories: Mapping[str, str] | None) -> Any:
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise Unavailable(
            "The jars of Apache Kafka are not on this machine, and jgo, which fetches them, is not installed: "
            "pip install 'epistream[local-kafka]'"
        ) from error
    remotes = repositories or {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    return MavenContext(repo_cache=cache, remote_repos=dict(remotes), timeout=_DOWNLOAD_TIMEOUT_SECONDS)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the file's lock, which other processes that fetch at the same time wait for."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parse(line: str) -> Jar:
    sha256, coordinates = line.split()
    group, artifact, version = coordinates.split(":")
    return Jar(group, artifact, version, sha256)


def resolve() -> list[str]:
    """The lines of the list, resolved and downloaded anew. For developers who change a version."""
    import jgo

    artifacts = {
        f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}": artifact
        for endpoint in _COORDINATES
        for artifact in jgo.resolve(endpoint)
    }
    return [
        f"{hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()}  {coordinates}"
        for coordinates, artifact in sorted(artifacts.items())
    ]


if __name__ == "__main__":
    print("\n".join(resolve()))
