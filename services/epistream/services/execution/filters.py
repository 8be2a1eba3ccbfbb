"""The seccomp filters: of the kernel's some 400 calls a program may use those in syscalls.py, the rest is refused.

A refused call fails with EPERM (`clone3` with ENOSYS, so that the C library falls back on `clone`, and those of
extended attributes with ENOTSUP): the program sees an error and goes on. A program for another machine's numbers
(32 bits, x32) is killed or refused whole.
"""

import errno
import platform
import struct
from collections.abc import Collection
from typing import Final

from epistream.services.execution.inside.forked import ITSELF
from epistream.services.execution.syscalls import ATTRIBUTES, BOUNDED, START, WORK

_MACHINES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The machine as the kernel's audit numbers it, and its column in syscalls.py."""
_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000
_ERROR: Final = 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_TERMINAL_QUESTIONS: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what Python asks of each file that it opens."""
_AF_UNIX: Final = 1
_SIGNALS: Final = ("kill", "tgkill")
"""With their first argument a process may name itself, as `raise` and `abort` do."""
_OF_DESCRIPTORS: Final = (0, 1, 2, 3, 4, 5, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_DUPFD_CLOEXEC. Not those that say whom a descriptor sends
which signal, which would be any process: nor without them does O_ASYNC send one."""
_LOCKS: Final = (6, 7)
"""F_SETLK, F_SETLKW: as if given. Of one process each lock is given, and one that was would show to others: what
sandboxes have from this machine are the same files."""
_SEND_FLAGS: Final = 0x4040
"""MSG_DONTWAIT, MSG_NOSIGNAL."""
_RECEIVE_FLAGS: Final = 0x40000162
"""MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT, MSG_WAITALL, MSG_CMSG_CLOEXEC."""


def supported() -> bool:
    """Whether the numbers of this machine's calls are known."""
    return platform.machine() in _MACHINES


def starting() -> bytes:
    """The filter that bubblewrap sets: what the interpreter needs to start, and to fork for each program."""
    return _filter([*WORK, *START])


def running() -> bytes:
    """The filter of a process before it loads a program: no processes, no threads, no other programs.

    It is the process's own when `Confinement` has put its number in the place of `ITSELF`.
    """
    return _filter(WORK)


def _filter(names: Collection[str]) -> bytes:
    machine, column = _MACHINES[platform.machine()]
    numbers = {**WORK, **START, **BOUNDED, **ATTRIBUTES}
    steps = [_step(_LOAD, _MACHINE_AT), _step(_EQUAL, machine, 1, 0), _step(_RETURN, _KILL), _step(_LOAD, _NUMBER_AT)]
    steps += _bounded(numbers["ioctl"][column], 1, _TERMINAL_QUESTIONS)
    # Limits of one's own only.
    steps += _bounded(numbers["prlimit64"][column], 0, (0,))
    # What an event loop wakes itself with.
    steps += _bounded(numbers["socketpair"][column], 0, (_AF_UNIX,))
    steps += _bounded(numbers["fcntl"][column], 1, _OF_DESCRIPTORS, _LOCKS)
    # Data only, and in turn: what is out of band signals, and is a part of the kernel that few use.
    steps += _flagged(numbers["sendto"][column], 3, _SEND_FLAGS)
    steps += _flagged(numbers["recvfrom"][column], 3, _RECEIVE_FLAGS)
    steps += _flagged(numbers["recvmsg"][column], 2, _RECEIVE_FLAGS)
    for name in _SIGNALS:
        if name not in names:
            steps += _bounded(numbers[name][column], 0, (ITSELF,))
    steps += [_step(_EQUAL, numbers["clone3"][column] or 0, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    for name in ATTRIBUTES:
        steps += [_step(_EQUAL, numbers[name][column] or 0, 0, 1), _step(_RETURN, _ERROR | errno.ENOTSUP)]
    allowed = {number for name in names if (number := numbers[name][column]) is not None}
    return b"".join(steps + _tree(_ranges(sorted(allowed))))


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """The first and the last of each run of numbers."""
    starts = [at for at in numbers if at - 1 not in numbers]
    ends = [at for at in numbers if at + 1 not in numbers]
    return list(zip(starts, ends, strict=True))


def _tree(ranges: list[tuple[int, int]]) -> list[bytes]:
    """Allow what is in a range, by halving them: the kernel runs the filter for each of its calls when it is set."""
    if len(ranges) == 1:
        first, last = ranges[0]
        allow, refuse = _step(_RETURN, _ALLOW), _step(_RETURN, _ERROR | errno.EPERM)
        return [_step(_AT_LEAST, first, 0, 2), _step(_AT_LEAST, last + 1, 1, 0), allow, refuse]
    middle = len(ranges) // 2
    lower = _tree(ranges[:middle])
    return [_step(_AT_LEAST, ranges[middle][0], len(lower), 0), *lower, *_tree(ranges[middle:])]


def _bounded(
    number: int | None, argument: int, allowed: tuple[int, ...], pretended: tuple[int, ...] = ()
) -> list[bytes]:
    """Allow a call where the low half of one of its arguments is one of these; the number stays loaded.

    With one of the `pretended` it is not done, and returns 0 as if it were.
    """
    steps = [_step(_LOAD, _ARGUMENTS_AT + 8 * argument)]
    for values, answer in ((allowed, _ALLOW), (pretended, _ERROR)):
        for value in values:
            steps += [_step(_EQUAL, value, 0, 1), _step(_RETURN, answer)]
    steps.append(_step(_RETURN, _ERROR | errno.EPERM))
    return [_step(_EQUAL, number or 0, 0, len(steps)), *steps]


def _flagged(number: int | None, argument: int, flags: int) -> list[bytes]:
    """Allow a call whose argument has no other flags than these; the number stays loaded."""
    steps = [
        _step(_LOAD, _ARGUMENTS_AT + 8 * argument),
        _step(_ANY_BIT, ~flags & 0xFFFFFFFF, 0, 1),
        _step(_RETURN, _ERROR | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    return [_step(_EQUAL, number or 0, 0, len(steps)), *steps]


def _step(code: int, value: int, jump_if: int = 0, jump_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_if, jump_else, value)
