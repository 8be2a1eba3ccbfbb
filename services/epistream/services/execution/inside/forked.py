"""What makes a forked process one that may run what is not trusted."""

import ctypes
import os
import resource
import signal
import sys

TALK = 3
"""The descriptor that the two processes of a run talk over, in each of them."""
ITSELF = 0x7FFFFFFF
"""In a filter: the process that it is set for. No process has this number."""
_ASIDE = 40
_MOST_OPEN = 4096
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_NOT_ISOLATED = 101
_STEP_BYTES = 8
"""Of a filter. The last four are the value that it compares with."""


class _FilterProgram(ctypes.Structure):
    """The kernel's `struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class Confinement:
    """Takes from a forked process what it does not need. Made before the fork, so that it costs each of them little.

    Args:
        allowed: the seccomp filter.
    """

    def __init__(self, allowed: bytes) -> None:
        self._prctl = ctypes.CDLL(None).prctl
        self._held = ctypes.create_string_buffer(allowed, len(allowed))
        steps = range(0, len(allowed), _STEP_BYTES)
        self._itself = [at + 4 for at in steps if int.from_bytes(allowed[at + 4 : at + 8], sys.byteorder) == ITSELF]
        self._program = _FilterProgram(len(allowed) // _STEP_BYTES, ctypes.cast(self._held, ctypes.c_void_p))

    def enter(self, descriptors: dict[int, int], cpu_seconds: float) -> None:
        """Keep the standard streams and these descriptors, few calls, and some CPU time.

        Args:
            descriptors: by the number that each is to have.
            cpu_seconds: after which the process is ended. So it is at once where the kernel does not take the filter.
        """
        # Out of each other's way first: a descriptor may have the number that another one is to get.
        aside = {number: os.dup2(held, _ASIDE + number) for number, held in descriptors.items()}
        for number, put_aside in aside.items():
            os.dup2(put_aside, number)
        os.closerange(max(descriptors) + 1, _MOST_OPEN)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        # The first process has no use for it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        for at in self._itself:
            ctypes.c_uint32.from_buffer(self._held, at).value = os.getpid()
        no_new = self._prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if no_new or self._prctl(_SECCOMP, _FILTER, ctypes.byref(self._program), 0, 0):
            os._exit(_NOT_ISOLATED)
