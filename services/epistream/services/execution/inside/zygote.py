"""The first process of a sandbox: it runs nothing of what it is given, and forks a process for each program.

There are two such sandboxes for one verification: one for the program and its mutants, one for the tests. Each is told
by the service what to do, and is handed the descriptor that the two processes of a run talk over.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from _socket import CMSG_SPACE, socket

from .values import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    # It takes longer to load than all else here.
    from typing import Any

    from .judges import Judges
    from .programs import Programs

_CONTROL = 3
_NUMBER_BYTES = 4
"""Of a descriptor."""


def main(role: str) -> None:
    """Do what the service says until it closes the connection."""
    # The connection comes as the standard input. It moves out of the way of the programs.
    os.dup2(0, _CONTROL)
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    os.closerange(_CONTROL + 1, 4096)
    # Python's handler would raise KeyboardInterrupt here. As it is by itself, the first process gets none from inside.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    control = socket(fileno=_CONTROL)
    channel = Channel(_CONTROL)
    channel.send({"python": sys.version.split()[0]})
    told, _ = _receive(control)
    _limit(told["limits"])
    worker = _worker(role, told)
    channel.send(worker.ready())
    while True:
        try:
            asked, descriptor = _receive(control)
        except EOFError:
            worker.stop()
            return
        channel.send(worker.do(asked, descriptor))


def _worker(role: str, told: dict[str, Any]) -> Programs | Judges:
    # Each loads only what it needs: a sandbox is started for every verification.
    if role == "program":
        from .programs import Programs

        return Programs(told)
    from .judges import Judges

    return Judges(told, _CONTROL)


def _receive(control: socket) -> tuple[Any, int]:
    """A message, and the descriptor that came with it, or -1."""
    head, extra, _, _ = control.recvmsg(4, CMSG_SPACE(_NUMBER_BYTES))
    descriptor = int.from_bytes(extra[0][2][:_NUMBER_BYTES], sys.byteorder) if extra else -1
    return Channel(_CONTROL).receive_after(head), descriptor


def _limit(limits: dict[str, int]) -> None:
    """What holds for this process and all that come of it, for good."""
    for name, value in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (most, most))
