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

from epistream.services.execution.syscalls import BOUNDED, START, WORK
from tests.support.bubblewrap import find_bubblewrap
from tests.support.manifests.cluster import K8S
from tests.support.system_calls import NUMBERS

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
OF_ATTACKERS: Final = {
    "ptrace", "personality", "acct", "settimeofday", "swapon", "swapoff", "reboot", "iopl", "ioperm", "init_module",
    "delete_module", "quotactl", "clock_settime", "kexec_load", "add_key", "request_key", "keyctl", "perf_event_open",
    "name_to_handle_at", "open_by_handle_at", "setns", "process_vm_readv", "kcmp", "finit_module", "bpf", "userfaultfd",
    "io_uring_setup", "open_tree", "move_mount", "fsopen", "mount_setattr",
}  # fmt: skip
OF_32_BITS: Final = {"vm86", "vm86old"}
"""Which x86-64 does not have."""
INSIDE: Final = """
import ctypes, socket, sys
from contextlib import suppress
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
with suppress(ConnectionRefusedError):
    socket.create_connection(("127.0.0.1", 9))
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
    assert OF_ATTACKERS <= REFUSED
    assert REFUSED - NUMBERS.keys() == OF_32_BITS


def test_the_numbers_of_the_sandbox_are_those_of_the_kernel() -> None:
    numbers = {name: number for name, (number, _) in (WORK | START | BOUNDED).items()}
    assert numbers.items() <= NUMBERS.items()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_the_sandbox_starts_under_it_and_verifies() -> None:
    """All but the node: with no new privileges and all that it refuses, as a kubelet has it before all else."""
    numbers = sorted(NUMBERS[name] for name in REFUSED - OF_32_BITS)
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
