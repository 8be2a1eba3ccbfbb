"""The audit log: who did what, in which namespace, with which outcome. One JSON object a line, appended and rotated.

It never holds knowledge: no content, no query, no vector, no token.
"""

import json
import logging
import logging.handlers
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from epistream.services.security.limits import Bucket
from epistream.wire.errors import InvalidInput

FILE_BYTES: Final = 64 * 1024 * 1024
"""A file is rotated when it has grown to this."""
FILES: Final = 10
"""How many rotated files are kept beside the one that is written."""
_PRIVATE: Final = 0o600
_UNKNOWN_PER_SECOND: Final = 10
"""Lines about callers whom nobody knows, of whom there may be any number. The metric counts all of them."""
UNAUTHENTICATED: Final = "UNAUTHENTICATED"
PERMISSION_DENIED: Final = "PERMISSION_DENIED"


class Audit:
    """Writes lines. Each write goes to the operating system at once, which takes some 20 us; it is not synced."""

    def __init__(self, path: Path | None, failed: Callable[[str], None]) -> None:
        """Open the file; None for no audit log.

        Args:
            path: the file. Its folder must exist.
            failed: called with `audit` when a line cannot be written. The call goes on: an operator who would rather
                have the service stop sets an alert on the metric.

        Raises:
            InvalidInput: the file cannot be opened.
        """
        self._handler: _Handler | None = None
        self._unknown = Bucket(_UNKNOWN_PER_SECOND, time.monotonic)
        if path is not None:
            try:
                self._handler = _Handler(path, failed)
            except OSError as error:
                raise InvalidInput.at("audit_file", f"{path} cannot be opened: {error}") from error

    @property
    def kept(self) -> bool:
        """Whether lines are written at all."""
        return self._handler is not None

    def record(self, line: Mapping[str, object]) -> None:
        """Append a line; `time` is added in front, in UTC. Of those with the code UNAUTHENTICATED ten a second at most.

        One thread at a time.
        """
        if self._handler is None:
            return
        if line.get("code") == UNAUTHENTICATED:
            if self._unknown.delay_seconds() > 0:
                return
            self._unknown.take(1)
        text = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **line})
        self._handler.handle(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()


class _Handler(logging.handlers.RotatingFileHandler):
    def __init__(self, path: Path, failed: Callable[[str], None]) -> None:
        super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8")
        self._failed = failed

    def _open(self) -> TextIOWrapper:
        """Also after a rotation. A file that is made is for the service's user alone: it says who did what, and where.

        One that is there keeps the mode that somebody gave it.
        """
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
        return os.fdopen(descriptor, self.mode, encoding=self.encoding, errors=self.errors)  # type: ignore[return-value]

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging calls it
        self._failed("audit")
