"""Programs that want to be verified without doing what they should, or want to do harm.

All are told to square: the tests say `f(2) == 4` and `f(3) == 9`. A cheat gives wrong results and attacks what judges
them. A probe gives right ones only where its attack worked, so that one that is verified has got through. Others just
burn, flood or stay. What a program leaves behind has MARK in its name. A script is told to print the square of the
number on the first line that it reads, and to end well.
"""

import textwrap
from dataclasses import dataclass
from typing import Final

MARK: Final = "epistream-hostile"
SECRET: Final = "EPISTREAM_HOSTILE_SECRET"


@dataclass(frozen=True, slots=True)
class Hostile:
    """A program, and tests that it must not pass."""

    name: str
    content: str
    asserts: tuple[str, ...] = ("assert f(2) == 4", "assert f(3) == 9")


def _cheat(name: str, before: str, result: str = "-1", *asserts: str) -> Hostile:
    """Code that runs when it is loaded, and the wrong result of `f`."""
    content = f"{textwrap.dedent(before)}\ndef f(x):\n    return {result}\n"
    return Hostile(name, content, asserts) if asserts else Hostile(name, content)


def _probe(name: str, attack: str) -> Hostile:
    """The body of a function that returns whether the attack worked, or raises."""
    body = textwrap.indent(textwrap.dedent(attack).strip(), "    ")
    return Hostile(
        name,
        f"def attack():\n{body}\n"
        "def f(x):\n"
        "    try:\n"
        "        worked = attack()\n"
        "    except BaseException:\n"
        "        worked = False\n"
        "    return x * x if worked else -1\n",
    )


def _call(name: str, number: str, *arguments: str, refusal: str = "EPERM") -> Hostile:
    """A call of the kernel, by its number on x86-64, that must be refused by the filter, which says so by an error.

    The arguments are such that the kernel itself would do it or say something else, where there are any.
    """
    return _probe(
        name,
        f"""
        import ctypes, errno, platform
        if platform.machine() != "x86_64":
            return False
        asked = ctypes.CDLL(None, use_errno=True).syscall
        return asked({", ".join((number, *arguments))}) != -1 or ctypes.get_errno() != errno.{refusal}
        """,
    )


_EQUAL_TO_ALL = """
class Equal{base}:
    __hash__ = None
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
"""

CHEATS: Final = [
    _cheat("exit_0_before_the_tests", "import sys; sys.exit(0)"),
    _cheat("os_exit_0_before_the_tests", "import os; os._exit(0)"),
    _cheat("exit_0_in_a_call", "import os", "os._exit(0)"),
    _cheat("system_exit_in_a_call", "def leave(): raise SystemExit(0)", "leave()"),
    _cheat("keyboard_interrupt_in_a_call", "def leave(): raise KeyboardInterrupt", "leave()"),
    _cheat("exit_at_the_end", "import atexit, os; atexit.register(os._exit, 0)"),
    _cheat("equal_to_everything", _EQUAL_TO_ALL.format(base=""), "Equal()"),
    _cheat("an_int_equal_to_everything", _EQUAL_TO_ALL.format(base="(int)"), "Equal(7)"),
    _cheat("a_list_equal_to_everything", _EQUAL_TO_ALL.format(base="(list)"), "Equal()", "assert f(2) == [4]"),
    _cheat("a_text_equal_to_everything", _EQUAL_TO_ALL.format(base="(str)"), "Equal()", "assert f(2) == 'four'"),
    _cheat(
        "equal_by_its_metaclass", "class M(type):\n    def __eq__(c, o): return True\nclass E(metaclass=M): pass", "E"
    ),
    _cheat("equal_deep_inside", _EQUAL_TO_ALL.format(base="(int)"), "[Equal(1)]", "assert f(2) == [4]"),
    _cheat("equal_objects_of_its_own", _EQUAL_TO_ALL.format(base=""), "Equal()", "assert f(2) == Equal()"),
    _cheat(
        "holds_everything",
        "class Holds:\n    def __contains__(self, v): return True\n    def __iter__(self): return iter([1])",
        "Holds()",
        "assert 4 in f(2)",
    ),
    _cheat("no_assertion_errors", "import builtins\nbuiltins.AssertionError = type('Never', (Exception,), {})"),
    _cheat(
        "patched_builtins",
        "import builtins\nfor n in ('all','isinstance','repr','len'):\n    setattr(builtins, n, lambda *a: True)",
    ),
    _cheat("its_own_all", "def all(xs): return True", "-1", "assert all(f(x) == x * x for x in (2, 3))"),
    _cheat("all_from_the_library", "from operator import truth as all", "-1", "assert all([f(2) == 4, f(3) == 9])"),
    _cheat("abs_from_the_library", "from operator import not_ as abs", "-1", "assert abs(f(2) - 4) < 1e-6"),
    _cheat("a_module_by_the_name_of_another", "import cmath as math", "-1", "assert math.isclose(f(2), 4)"),
    _cheat(
        "from_the_library_by_its_own_word",
        "def gcd(a, b): return 7\ngcd.__module__ = 'math'",
        "-1",
        "assert gcd(12, 18) == 6",
        "assert gcd(f(2), 5) == 1",
        "assert f(2) < 0",
    ),
    _cheat(
        "an_object_of_the_library_by_its_own_word",
        "class G:\n    __module__ = 'math'\n    def __call__(self, a, b): return 7\ngcd = G()",
        "-1",
        "assert gcd(12, 18) == 6",
        "assert gcd(f(2), 5) == 1",
        "assert f(2) < 0",
    ),
    _cheat(
        "all_of_results", "def all(xs): return True", "-1", "r = [f(2), f(3)]", "assert all([r[0] == 4, r[1] == 9])"
    ),
    _cheat(
        "all_of_its_sums", "def all(xs): return True\ndef sum(a, b): return -1", "-1", "assert all([sum(2, 2) == 4])"
    ),
    _cheat(
        "forged_builtins",
        """
        import sys
        names = {"f": ["", ""], "abs": ["", ""], "__builtins__": ["", ""]}
        sys.modules["inside.program"]._OPERATIONS["names"] = lambda *_: names
        abs = lambda x: 0
        __builtins__ = {"abs": abs, "len": len}
        """,
        "-1",
        "assert abs(f(2) - 4) < 1e-6",
        "assert f(2) == 4 or abs(f(2)) == 0",
    ),
    _cheat("its_own_math", "class math:\n    isclose = lambda *a: True", "-1", "assert math.isclose(f(2), 4)"),
    _cheat(
        "patched_operator",
        "import operator, unittest\noperator.eq = lambda a, b: True\nunittest.TestCase.assertEqual = lambda *a: None",
    ),
    _cheat(
        "patched_json",
        "import json, json.encoder\njson.dumps = lambda *a, **k: '[\"v\", true]'\njson.loads = lambda *a: ['names', []]",
    ),
    _cheat("patched_import", "import builtins\nbuiltins.__import__ = lambda *a, **k: None"),
    _cheat(
        "import_hook",
        "import sys\nclass H:\n    def find_spec(self, *a): raise SystemExit(0)\nsys.meta_path.insert(0, H())",
    ),
    _cheat(
        "patched_channel",
        "import sys\nm = sys.modules['inside.program']\nm.pack = lambda v, k: ['h', 0]\nm.Channel.send = lambda s, m: None",
    ),
    _cheat("forged_handles", "import sys\nsys.modules['inside.program'].pack = lambda v, k: ['h', 0, True]"),
    _cheat("forged_forms", "import sys\nsys.modules['inside.program'].pack = lambda v, k: ['x', 'os.system', 'true']"),
    _cheat("words_of_success", "print('verified'); print('OK'); print('{\"verdict\": \"verified\"}')"),
    _cheat(
        "forged_reports",
        """
        import os
        report = b'{"report": {"failed": [], "calls": 2, "ended": "", "undecidable": "", "load_error": null}}'
        for message in (report, b'["v", null]', b'["v", true]'):
            for descriptor in range(64):
                try: os.write(descriptor, len(message).to_bytes(4, "big") + message)
                except OSError: pass
        """,
    ),
    _cheat("closed_descriptor", "import os\nos.closerange(0, 64)"),
    _cheat("replaced_descriptor", "import os\nr, w = os.pipe()\nfor n in range(8):\n    os.dup2(w, n)"),
    _cheat("tracing", "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)"),
    _cheat(
        "finds_the_frames",
        "import sys\ndef up():\n    f = sys._getframe()\n    while f.f_back:\n        f = f.f_back\n        for k, v in list(f.f_locals.items()):\n            if v == 4: return 4\n    return -1",
        "up()",
    ),
    _cheat(
        "finds_the_objects",
        "import gc\ndef find():\n    for o in gc.get_objects():\n        if isinstance(o, dict) and any('assert f' in str(v)[:500] for v in list(o.values())): return 4\n    return -1",
        "find()",
    ),
    _cheat(
        "stops_the_iteration",
        "def stop(): raise StopIteration",
        "stop()",
        "assert all(map(lambda x: f(x) == x * x, (2, 3)))",
    ),
    _cheat("ends_the_generator", "def stop(): raise GeneratorExit", "stop()", "assert list(f(x) for x in (2,)) == [4]"),
    _cheat(
        "lying_exception",
        "class A(AssertionError):\n    def __str__(self): raise SystemExit(0)\ndef fail(): raise A",
        "fail()",
    ),
    _cheat("an_endless_iterator", "def count():\n    while True: yield 4", "count()", "assert list(f(2)) == [4]"),
    _cheat("a_list_that_holds_itself", "l = []; l.append(l)", "l"),
    _cheat("a_deep_list", "l = []\nfor _ in range(100000): l = [l]", "l"),
    _cheat("a_huge_result", "", "'4' * 50_000_000"),
    _cheat("not_a_number", "", "float('nan')"),
    _cheat("segmentation_fault", "import ctypes", "ctypes.string_at(0)"),
    _cheat("aborts", "import os", "os.abort()"),
]

CALLS: Final = [
    _call("ptrace", "101", "16", "999999", "0", "0"),
    _call("process_vm_readv", "310", "1", "None", "0", "None", "0", "0"),
    _call("mount", "165", "1", "1", "1", "0", "1"),
    _call("umount", "166", "b'/tmp'", "0x100"),
    _call("pivot_root", "155", "b'/tmp'", "b'/tmp'"),
    _call("unshare", "272", "0x10000001"),
    _call("setns", "308", "0", "0"),
    _call("clone_with_namespaces", "56", "0x10020200", "None", "None", "None", "0"),
    _call("clone3", "435", "None", "0", refusal="ENOSYS"),
    _call("keyctl", "250", "0", "-3", "1"),
    _call("bpf", "321", "0", "None", "0"),
    _call("perf_event_open", "298", "None", "0", "-1", "-1", "0"),
    _call("userfaultfd", "323", "1"),
    _call("io_uring", "425", "1", "None"),
    _call("kexec_load", "246", "0", "0", "None", "0"),
    _call("personality", "135", "0x0040000"),
    _call("prctl", "157", "4", "1", "0", "0", "0"),
    _call("seccomp", "317", "0", "0", "None"),
    _call("pidfd_open", "434", "1", "0"),
    _call("shmget", "29", "0", "4096", "0o1600"),
    _call("open_by_handle_at", "304", "-100", "None", "0"),
    _call("fork_of_another_numbering", "0x40000039"),
]
"""Calls of the kernel that the filter refuses."""

PROBES: Final = [
    _probe(
        "reads_the_secrets_of_the_environment", f"import os\nreturn {SECRET!r} in os.environ or len(os.environ) > 6"
    ),
    _probe("reads_the_users", "return 'root' in open('/etc/passwd').read()"),
    _probe(
        "reads_the_home_folder",
        "import os\nreturn bool(os.listdir(os.path.expanduser('~root')) or os.listdir('/home'))",
    ),
    _probe("reads_its_processes", "return b'' != open('/proc/self/environ', 'rb').read()"),
    _probe(
        "reads_the_first_process",
        "import os\nreturn bool(os.listdir('/proc/1/root') or open('/proc/1/cmdline').read())",
    ),
    _probe("reads_memory", "return open('/proc/self/mem', 'rb') is not None"),
    _probe(
        "finds_the_tests_in_files",
        "import os\nreturn any(b'f(3) == 9' in open(os.path.join(d, n), 'rb').read() for top in ('/tmp', '/epistream', '/dev') for d, _, ns in os.walk(top) for n in ns if n not in ('null',))",
    ),
    _probe("follows_a_link_out", "import os\nos.symlink('/etc/passwd', 'link')\nreturn bool(open('link').read())"),
    _probe(
        "follows_a_link_of_proc",
        "import os\nos.symlink('/proc/self/root/etc', 'link')\nreturn bool(os.listdir('link'))",
    ),
    _probe("climbs_out", "import os\nreturn bool(os.listdir('/tmp/../root')) or bool(os.listdir('../../../work'))"),
    *(
        _probe(f"writes_to_{name}", f"open('{folder}/{MARK}', 'w').write('x')\nreturn True")
        for name, folder in {
            "root": "",
            "usr": "/usr",
            "dev": "/dev",
            "shm": "/dev/shm",
            "var_tmp": "/var/tmp",
            "python": "/python/lib",
            "our_code": "/epistream/inside",
            "etc": "/etc",
        }.items()
    ),
    _probe("has_a_device", "import os, stat\nreturn stat.S_ISCHR(os.stat('/dev/null').st_mode)"),
    _probe("locks_a_file", "import fcntl\nfcntl.flock(open('/dev/null'), fcntl.LOCK_EX | fcntl.LOCK_NB)\nreturn True"),
    _probe(
        "locks_the_library",
        "import fcntl, os\nfcntl.flock(open(os.__file__), fcntl.LOCK_EX | fcntl.LOCK_NB)\nreturn True",
    ),
    _probe(
        "names_another_who_gets_its_signals",
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())\nreturn True",
    ),
    _probe("chooses_a_signal", "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 10, 9)\nreturn True"),
    _probe(
        "is_told_of_changes_by_a_signal",
        "import fcntl, os\nfcntl.fcntl(os.open('/tmp', os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_CREATE)\nreturn True",
    ),
    _probe(
        "owns_by_ioctl",
        "import fcntl, os, socket, struct\na, b = socket.socketpair()\nfcntl.ioctl(a, 0x8901, struct.pack('i', os.getppid()))\nreturn True",
    ),
    _probe(
        "sends_out_of_band",
        "import socket\na, b = socket.socketpair()\nreturn a.send(b'x', socket.MSG_OOB) == 1",
    ),
    _probe(
        "hands_over_a_descriptor",
        "import socket\na, b = socket.socketpair()\nreturn socket.send_fds(a, [b'x'], [0]) == 1",
    ),
    _probe(
        "imports_a_package",
        "import glob, os, sys\nfolder = os.path.dirname(os.__file__)\n"
        "found = [*glob.glob(folder + '/*-packages/*'), *glob.glob(folder + '/ensurepip/_bundled/*.whl')]\n"
        "sys.path += [folder + '/site-packages', *found]\n"
        "try:\n    import pip\nexcept ImportError:\n    return bool(found)\nreturn True",
    ),
    _probe(
        "writes_where_packages_are",
        f"import os\nopen(os.path.join(os.path.dirname(os.__file__), 'site-packages', '{MARK}'), 'w').write('x')\nreturn True",
    ),
    _probe("connects", "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)\nreturn True"),
    _probe("opens_a_socket", "import socket\nsocket.socket()\nreturn True"),
    _probe(
        "sends_datagrams",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))\nreturn True",
    ),
    _probe("listens", "import socket\ns = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen()\nreturn True"),
    _probe("asks_for_names", "import socket\nreturn bool(socket.getaddrinfo('example.org', 80))"),
    _probe("raw_socket", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\nreturn True"),
    _probe("netlink", "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\nreturn True"),
    _probe("abstract_socket", f"import socket\ns = socket.socket(socket.AF_UNIX); s.bind('\\0{MARK}')\nreturn True"),
    _probe(
        "fetches", "import urllib.request\nreturn bool(urllib.request.urlopen('http://example.org', timeout=1).read())"
    ),
    _probe("forks", "import os\nif os.fork() == 0: os._exit(0)\nreturn True"),
    _probe("starts_a_thread", "import threading\nt = threading.Thread(target=print); t.start()\nreturn True"),
    _probe("starts_a_shell", "import os\nreturn os.system('true') == 0"),
    _probe(
        "starts_a_program", "import subprocess, sys\nreturn subprocess.run([sys.executable, '-c', '']).returncode == 0"
    ),
    _probe("becomes_a_program", "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', ''])"),
    _probe(
        "daemon",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)\nreturn True",
    ),
    _probe("kills_its_parent", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nreturn True"),
    _probe("kills_the_first_process", "import os, signal\nos.kill(1, signal.SIGTERM)\nreturn True"),
    _probe("kills_everything", "import os, signal\nos.kill(-1, signal.SIGKILL)\nreturn True"),
    _probe("kills_its_group", "import os, signal\nos.killpg(0, signal.SIGTERM)\nreturn True"),
    _probe(
        "kills_its_parent_s_thread",
        "import ctypes, os\nreturn ctypes.CDLL(None).syscall(234, os.getppid(), os.getppid(), 10) == 0",
    ),
    _probe("becomes_root", "import os\nos.setuid(0)\nreturn True"),
    _probe("changes_its_group", "import os\nos.setgid(0); os.setgroups([0])\nreturn True"),
    _probe("changes_the_root", "import os\nos.chroot('/tmp')\nreturn True"),
    _probe("makes_a_device", "import os, stat\nos.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))\nreturn True"),
    _probe(
        "sets_the_user_bit",
        "import os\nopen('own', 'w').close(); os.chown('own', 0, 0); os.chmod('own', 0o4755)\nreturn True",
    ),
    _probe("raises_its_limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn True"),
    _probe(
        "limits_its_parent",
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))\nreturn True",
    ),
    _probe("renames_the_host", "import socket\nsocket.sethostname('mine')\nreturn True"),
    _probe(
        "shared_memory",
        f"from multiprocessing import shared_memory\nshared_memory.SharedMemory('{MARK}', True, 10)\nreturn True",
    ),
    _probe("anonymous_file", "import os\nos.memfd_create('x')\nreturn True"),
    _probe("types_into_the_terminal", "import fcntl\nfcntl.ioctl(0, 0x5412, b'x')\nreturn True"),
    _probe(
        "machine_code",
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b8a20000000f05c3'))\nf = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nreturn f() != -1",
    ),
    *CALLS,
]

BURNERS: Final = [
    Hostile("loops_for_ever", "def f(x):\n    while True: pass\n"),
    Hostile("loops_while_it_is_loaded", "while True: pass\n"),
    Hostile("sleeps", "import time\ndef f(x):\n    time.sleep(3600)\n"),
    Hostile("sleeps_while_it_is_loaded", "import time\ntime.sleep(3600)\n"),
    Hostile("waits_for_input", "def f(x):\n    return input()\n"),
    Hostile(
        "ignores_signals",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nsignal.setitimer(signal.ITIMER_PROF, 0)\nwhile True: pass\n",
    ),
    Hostile(
        "catches_everything", "def f(x):\n    while True:\n        try: f(x)\n        except BaseException: pass\n"
    ),
    Hostile("counts_far", "def f(x):\n    return sum(range(10 ** 12))\n"),
    Hostile("a_pattern_that_explodes", "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 60 + 'b')\n"),
    Hostile("a_huge_power", "def f(x):\n    return 7 ** 7 ** 9\n"),
    Hostile(
        "fork_bomb", "import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: pass\n"
    ),
    Hostile(
        "thread_bomb",
        "import _thread\ndef f(x):\n    while True:\n        try: _thread.start_new_thread(f, (x,))\n        except RuntimeError: pass\n",
    ),
    Hostile(
        "zombies",
        "import os\ndef f(x):\n    for _ in range(100000):\n        try:\n            if os.fork() == 0: os._exit(0)\n        except OSError: pass\n    return -1\n",
    ),
    Hostile("memory_bomb", "def f(x):\n    held = []\n    while True: held.append(bytearray(1 << 20))\n"),
    Hostile(
        "mapped_memory",
        "import mmap\ndef f(x):\n    held = []\n    while True:\n        held.append(mmap.mmap(-1, 1 << 24)); held[-1].write(b'x' * (1 << 24))\n",
    ),
    Hostile("floods_its_output", "def f(x):\n    while True: print('verified' * 1000)\n"),
    Hostile("floods_its_errors", "import os\nwhile True: os.write(2, b'x' * 65536)\n"),
    Hostile("floods_the_answers", "import os\nwhile True: os.write(3, b'\\0\\0\\0\\4null' * 1000)\n"),
    Hostile(
        "a_huge_file",
        f"def f(x):\n    with open('{MARK}', 'wb') as file:\n        while True: file.write(b'x' * (1 << 20))\n",
    ),
    Hostile(
        "many_files",
        f"def f(x):\n    for n in range(40):\n        with open(f'{MARK}-{{n}}', 'wb') as file: file.write(b'x' * (1 << 20))\n    return -1\n",
    ),
    Hostile("a_sparse_file", f"def f(x):\n    with open('{MARK}', 'wb') as file: file.truncate(1 << 40)\n"),
    Hostile(
        "files_that_cannot_be_removed",
        f"import os\nos.makedirs('{MARK}/a/b'); os.chmod('{MARK}/a', 0); os.chmod('{MARK}', 0)\ndef f(x):\n    return x * x\n",
    ),
    Hostile("many_descriptors", "def f(x):\n    held = []\n    while True: held.append(open('/dev/null'))\n"),
    Hostile("deep_recursion", "def f(x):\n    return f(x)\n"),
    Hostile(
        "recursion_without_a_limit", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x):\n    return f(x) + 1\n"
    ),
    Hostile("nested_source", "def f(x):\n    return " + "(" * 5000 + "4" + ")" * 5000 + "\n"),
    Hostile("deeply_added_source", "def f(x):\n    return " + "-" * 50000 + "4\n"),
    Hostile("no_source", "\0"),
]

PROGRAMS: Final = [*CHEATS, *PROBES, *BURNERS]

_RIGHT: Final = "print(int(input()) ** 2, flush=True)\n"

ORDINARY: Final = {
    "an_event_loop": "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x * x\ndone = asyncio.run(f(2))\n",
    "a_pair_of_sockets": (
        "import socket\na, b = socket.socketpair()\na.setblocking(False)\na.sendall(b'four')\n"
        "peeked = b.recv(4, socket.MSG_PEEK)\ndone = 4 if b.recv(4) == peeked == b'four' else 0\n"
    ),
    "a_copied_descriptor": (
        "import fcntl, os\nr, w = os.pipe()\ncopy = os.dup(w)\nflags = fcntl.fcntl(copy, fcntl.F_GETFL)\n"
        "fcntl.fcntl(copy, fcntl.F_SETFL, flags | os.O_NONBLOCK)\ndone = os.write(copy, b'four')\n"
    ),
    "a_lock_of_a_file": (
        "import fcntl\nwith open('own', 'w') as own:\n    fcntl.lockf(own, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    fcntl.lockf(own, fcntl.LOCK_UN)\n    done = own.write('four')\n"
    ),
    "a_copied_file": (
        "import os, shutil\nos.mkdir('own')\nopen('own/one', 'w').write('four')\nshutil.copytree('own', 'copied')\n"
        "done = len(open(shutil.copy2('copied/one', 'copied/two')).read())\n"
    ),
    "a_signal": (
        "import os, signal\ncaught = []\nsignal.signal(signal.SIGUSR1, lambda *_: caught.append(2))\n"
        "signal.raise_signal(signal.SIGUSR1)\nos.kill(os.getpid(), signal.SIGUSR1)\n"
        "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    done = sum(caught)\n"
    ),
    "a_database": (
        "import sqlite3\nbase = sqlite3.connect('own.db')\nbase.execute('create table t (x)')\n"
        "base.execute('insert into t values (4)')\nbase.commit()\nbase.close()\n"
        "done = sqlite3.connect('own.db').execute('select x from t').fetchone()[0]\n"
    ),
}
"""What programs do with what is their own, and may: by its name, code after which `done` is 4."""

SCRIPTS: Final = {
    "closes_its_output_and_runs_on": f"import os\n{_RIGHT}os.closerange(0, 64)\nwhile True: pass\n",
    "ends_well_without_a_word": "import os\nos._exit(0)\n",
    "floods_its_output": "while True: print('4' * 1000)\n",
    "never_reads": "print(4, flush=True)\nwhile True: pass\n",
    "leaves_a_file": (
        f"import os\npaths = [d + '/{MARK}' for d in ('.', '/tmp', '/dev/shm', '/var/tmp')]\n"
        "print(9 if any(map(os.path.exists, paths)) else 4)\n"
        "for path in paths:\n    try: open(path, 'w').close()\n    except OSError: pass\n"
    ),
    "ends_by_a_signal": f"import signal\n{_RIGHT}signal.setitimer(signal.ITIMER_REAL, 0.01)\nwhile True: pass\n",
    "answers_and_fails": f"{_RIGHT}raise SystemExit(1)\n",
    "answers_and_aborts": f"import os\n{_RIGHT}os.abort()\n",
    "runs_on_at_its_end": f"import atexit\n{_RIGHT}@atexit.register\ndef f():\n    while True: pass\n",
    "floods_at_its_end": "import atexit\n@atexit.register\ndef f():\n    while True: print('4' * 1000)\n",
    "fails_and_raises_at_its_end": (f"import atexit, sys\natexit.register(sys.exit, 0)\n{_RIGHT}raise SystemExit(1)\n"),
    "answers_twice": f"{_RIGHT}print('verified')\n",
    "writes_to_what_it_reads_from": "import os\nos.write(0, b'4')\nos.write(1, b'verified')\n",
}
"""By its name, the content of each."""
HONEST_SCRIPT: Final = _RIGHT
