"""The node's seccomp profile for executors leaves what their sandbox needs, and nothing that only an attacker does."""

import ctypes
import errno
import json
import platform
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from epistream.services.execution.syscalls import START, WORK
from tests.support.bubblewrap import find_bubblewrap
from tests.support.manifests.cluster import K8S

PROFILE: Final = json.loads((K8S / "components/executor/seccomp.json").read_text())
[RULE] = PROFILE["syscalls"]
REFUSED: Final = set(RULE["names"])
NEEDED: Final = {
    "clone",
    "clone3",
    "unshare",
    "mount",
    "umount2",
    "pivot_root",
    "sethostname",
    "capset",
    "prctl",
    "seccomp",
}
"""What bubblewrap makes a sandbox of. The runtime's own profile refuses the first six without CAP_SYS_ADMIN."""
NUMBERS: Final = {
    "ptrace": 101, "personality": 135, "acct": 163, "settimeofday": 164, "swapon": 167, "swapoff": 168, "reboot": 169,
    "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "clock_settime": 227,
    "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "kcmp": 312,
    "finit_module": 313, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "mount_setattr": 442,
}  # fmt: skip
"""On x86-64."""
INSIDE: Final = """
import ctypes, sys
from pathlib import Path
from epistream.services.execution.verifying import Verifier
from epistream.v1 import knowledge_pb2 as pb
steps = bytes.fromhex(sys.argv[2])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
held = ctypes.create_string_buffer(steps, len(steps))
program = Program(len(steps) // 8, ctypes.cast(held, ctypes.c_void_p))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
assert libc.syscall(250, 0, -3, 1) == -1 and ctypes.get_errno() == 1, "the filter is on: keyctl"
tests = pb.Tests(language="python", asserts=["assert f(2) == 4", "assert f(3) == 9"])
print(Verifier.find(Path(sys.argv[1])).verify("def f(x):\\n    return x * x\\n", tests).verdict)
"""


def test_it_refuses_what_no_sandbox_and_no_program_needs() -> None:
    assert (PROFILE["defaultAction"], RULE["action"], RULE["errnoRet"]) == (
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        errno.EPERM,
    )
    assert not REFUSED & (NEEDED | WORK.keys() | START.keys())
    assert NUMBERS.keys() <= REFUSED


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_the_sandbox_starts_under_it_and_verifies() -> None:
    """All but the node: with no new privileges and this filter, as the kubelet sets them before the first program."""
    numbers = sorted(NUMBERS.values())
    steps = [(0x20, 0, 0, 0)]
    steps += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
    held = b"".join(struct.pack("=HBBI", *step) for step in steps)
    assert len(held) == ctypes.sizeof(ctypes.c_uint64) * len(steps)
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(find_bubblewrap()), held.hex()],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stdout.strip()) == (0, "verified"), done.stderr
