"""Is a process there?"""

import time
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether the process runs. One that has ended and waits for its parent to notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def wait_until_gone(pid: int, timeout_seconds: float = 10.0) -> None:
    """Waits until the process does not run."""
    deadline = time.monotonic() + timeout_seconds
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs after {timeout_seconds:g} seconds"
        time.sleep(0.02)
