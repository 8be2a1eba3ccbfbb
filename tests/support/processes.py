"""Is a process there, and which are those beside a service?"""

from pathlib import Path

import psutil

from epistream.services.kafka import poller


def is_running(pid: int) -> bool:
    """Whether the process runs. One that has ended and waits for its parent to notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def pollers(pid: int) -> list[psutil.Process]:
    """Those that read Kafka beside a service's process."""
    return [child for child in psutil.Process(pid).children(recursive=True) if poller.__name__ in child.cmdline()]
