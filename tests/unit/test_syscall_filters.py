"""The filters of calls, run as the kernel runs them: for each number, other machines' numbers and the arguments."""

import errno
import platform
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import pytest

from epistream.services.execution import filters
from epistream.services.execution.inside.forked import ITSELF
from epistream.services.execution.syscalls import ATTRIBUTES, BOUNDED, START, WORK

X86_64: Final = 0xC000003E
AARCH64: Final = 0xC00000B7
I386: Final = 0x40000003
X32: Final = 0x40000000
KILL: Final = 0x80000000
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | errno.EPERM
NUMBERS: Final = range(700)
"""The kernel's highest is below 500."""
ARGUMENTS: Final = (0xDEADBEEF,) * 6
"""What no bounded call may be asked."""


def run(program: bytes, number: int, arguments: tuple[int, ...] = ARGUMENTS, machine: int = X86_64) -> int:
    """What a classic BPF program answers to a call, which is the kernel's `struct seccomp_data`."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, machine, 0, *(each & (1 << 64) - 1 for each in arguments))
    steps = list(struct.iter_unpack("=HBBI", program))
    loaded = at = 0
    while True:
        code, jump_if, jump_else, value = steps[at]
        at += 1
        match code:
            case 0x20:
                loaded = int.from_bytes(data[value : value + 4], "little")
            case 0x15:
                at += jump_if if loaded == value else jump_else
            case 0x35:
                at += jump_if if loaded >= value else jump_else
            case 0x45:
                at += jump_if if loaded & value else jump_else
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"no step of ours: {code:#x}")


DANGEROUS: Final = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_setup": (206, 0),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "socket": (41, 198),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "connect": (42, 203),
    "setsockopt": (54, 208),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "recvmmsg": (299, 243),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "wait4": (61, 260),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "personality": (135, 92),
    "prctl": (157, 167),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "flock": (73, 32),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "capset": (126, 91),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "move_pages": (279, 239),
    "mlock": (149, 228),
    "mlockall": (151, 230),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "fanotify_init": (300, 262),
    "inotify_init1": (294, 26),
}
"""What a program may never do, by the numbers of both machines, from the kernel's headers and not from our lists."""
MACHINES: Final = [("x86_64", X86_64, 0), ("aarch64", AARCH64, 1)]
of_each_machine: Final = pytest.mark.parametrize(("name", "machine", "column"), MACHINES, ids=["x86_64", "aarch64"])


def numbers(calls: Mapping[str, tuple[int | None, int | None]], column: int) -> set[int]:
    return {number for each in calls.values() if (number := each[column]) is not None}


@of_each_machine
def test_exactly_what_is_listed_is_allowed(
    name: str, machine: int, column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    for program, listed in ((filters.running(), WORK), (filters.starting(), WORK | START)):
        answers = {number: run(program, number, machine=machine) for number in NUMBERS}
        assert {number for number, answer in answers.items() if answer == ALLOW} == numbers(listed, column)
        others = {number: answer for number, answer in answers.items() if answer not in (ALLOW, REFUSE)}
        attributes = dict.fromkeys(numbers(ATTRIBUTES, column), 0x00050000 | errno.ENOTSUP)
        assert others == {BOUNDED["clone3"][column]: 0x00050000 | errno.ENOSYS} | attributes


@of_each_machine
@pytest.mark.parametrize("argument", [0, 1, 2, 0xFFFFFFFF])
def test_what_is_dangerous_is_refused_whatever_it_is_asked(
    name: str, machine: int, column: int, argument: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    program = filters.running()
    refused = {REFUSE, 0x00050000 | errno.ENOSYS}
    allowed = [
        call
        for call, both in DANGEROUS.items()
        if (number := both[column]) is not None and run(program, number, (argument,) * 6, machine) not in refused
    ]
    assert allowed == []


@pytest.mark.parametrize("make", [filters.running, filters.starting])
def test_the_numbers_of_other_machines_are_refused_whole(make: Callable[[], bytes]) -> None:
    for number in NUMBERS:
        assert run(make(), number, machine=I386) == KILL
        assert run(make(), X32 | number) == REFUSE
    assert run(make(), -1) == REFUSE
    assert run(make(), -1, machine=I386) == KILL


@of_each_machine
@pytest.mark.parametrize("call", ["kill", "tgkill"])
def test_a_process_may_signal_itself_alone(
    call: str, name: str, machine: int, column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: name)
    number = START[call][column]
    assert number is not None
    program = filters.running()
    others = (*range(5000), 1 << 22, (1 << 32) - 1)
    assert {run(program, number, (who, 9, 9, 9, 9, 9), machine) for who in others} == {REFUSE}
    assert run(program, number, (ITSELF, 9, 9, 9, 9, 9), machine) == ALLOW
    assert ITSELF > 1 << 22, "the kernel's highest is less"


def answers_to(call: str, argument: int, values: Iterable[int]) -> dict[int, int]:
    """What the call is answered with each value of one of its arguments, where it is not refused."""
    number = BOUNDED[call][0]
    assert number is not None
    program = filters.running()
    asked = {value: tuple(value if at == argument else 0x7FFF0000 for at in range(6)) for value in values}
    answers = {value: run(program, number, arguments) for value, arguments in asked.items()}
    return {value: answer for value, answer in answers.items() if answer != REFUSE}


def allowed(*values: int) -> dict[int, int]:
    return dict.fromkeys(values, ALLOW)


EDGES: Final = (1 << 16, 1 << 31, (1 << 32) - 1)


def test_the_arguments_of_bounded_calls_are_bounded() -> None:
    assert answers_to("ioctl", 1, (*range(1 << 16), *EDGES)) == allowed(0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
    assert answers_to("prlimit64", 0, (*range(5000), *EDGES)) == allowed(0)
    assert answers_to("socketpair", 0, (*range(100), *EDGES)) == allowed(1)
    # As if done: a process alone conflicts with nobody.
    pretended = dict.fromkeys((6, 7), 0x00050000)
    assert answers_to("fcntl", 1, (*range(3000), *EDGES)) == allowed(0, 1, 2, 3, 4, 5, 1030) | pretended
    bits = [1 << bit for bit in range(32)]
    assert answers_to("sendto", 3, (0, *bits, 0x4040, 0x4041)) == allowed(0, 0x40, 0x4000, 0x4040)
    receiving = allowed(0, 0x2, 0x20, 0x40, 0x100, 0x40000000)
    assert answers_to("recvfrom", 3, (0, *bits, 0x3)) == receiving
    assert answers_to("recvmsg", 2, (0, *bits, 0x3)) == receiving
    assert answers_to("clone3", 0, range(10)) == dict.fromkeys(range(10), 0x00050000 | errno.ENOSYS)


def test_nothing_else_is_bounded_by_its_arguments() -> None:
    """Each of BOUNDED is tried above."""
    assert set(BOUNDED) == {
        "ioctl",
        "prlimit64",
        "socketpair",
        "fcntl",
        "sendto",
        "recvfrom",
        "recvmsg",
        "clone3",
    }
