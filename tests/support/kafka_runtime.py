"""What the Kafkas of the tests run on, with Kafka's classes as Java has laid them out once.

Java then starts and formats a Kafka with little more than half of the work. Its file of them (class data sharing) is
kept beside Kafka's jars, for each Java. Java does without one that is missing, or of other jars; but it crashes on one
that was cut off, so each is checked before it is used.
"""

import contextlib
import fcntl
import hashlib
import os
import signal
import tempfile
from functools import cache
from pathlib import Path
from typing import Final
from unittest import mock

from epistream.services.kafka import local
from epistream.services.kafka.jars import default_cache
from epistream.services.kafka.local import KafkaRuntime, LocalKafka, Variant, find_runtime
from epistream.wire.errors import EpistreamError, Unavailable

JAVA_OPTIONS: Final = "JDK_JAVA_OPTIONS"
"""Options of every Java that this process and its children start."""


@cache
def kafka_runtime() -> KafkaRuntime:
    """As `find_runtime`. From then on every Kafka finds the classes; they are laid out first when nobody has."""
    runtime = find_runtime()
    with contextlib.suppress(OSError, EpistreamError):
        classes = laid_out(runtime, default_cache())
        os.environ[JAVA_OPTIONS] = f"{os.environ.get(JAVA_OPTIONS, '')} -XX:SharedArchiveFile={classes}"
    return runtime


def laid_out(runtime: KafkaRuntime, folder: Path) -> Path:
    """The file of the classes in `folder`, whole; made first where it is not. One process makes it, others wait.

    Raises:
        EpistreamError: Kafka cannot be started.
        OSError: it cannot be written.
    """
    java = runtime.java.resolve()
    made_of = f"{java} {java.stat().st_mtime_ns} {runtime.class_path}"
    file = folder / f"classes-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.jsa"
    digest = file.with_suffix(".sha256")
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (file.exists() and digest.exists() and digest.read_text() == _sha256(file)):
            file.unlink(missing_ok=True)
            lay_out(runtime, file)
            digest.write_text(_sha256(file))
    return file


def lay_out(runtime: KafkaRuntime, file: Path) -> None:
    """Writes the file, by a Kafka that is started and stopped for it.

    Raises:
        EpistreamError: Kafka cannot be started, or did not end by itself, so that the file may be cut off.
    """
    variant = Variant(jvm_options=(f"-XX:ArchiveClassesAtExit={file}",))
    with (
        mock.patch.object(local, "_STOP_SECONDS", 120.0),
        tempfile.TemporaryDirectory() as folder,
        LocalKafka(Path(folder), runtime=runtime, variant=variant) as kafka,
    ):
        java = kafka._started()
        kafka.stop()
        if java.exit_code == -signal.SIGKILL:
            raise Unavailable("Kafka did not end in time, so its classes are not laid out")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
