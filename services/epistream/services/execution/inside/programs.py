"""The first process of the program's sandbox: it forks a process for the program, and for each of its mutants."""

import ast
import gc
import os
import signal
import stat
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any, Final, NoReturn

from . import imports, mutants, program
from .forked import TALK, Confinement

_NULL: Final = 0
"""The descriptor of the file in the place of `/dev/null`."""
_OPEN_TO_ALL: Final = 0o666
_COMMON: Final = ("bisect", "collections", "functools", "heapq", "itertools", "math", "re", "string")
"""What programs import most, loaded once for all runs, as `typing` is above."""
_DEPTH: Final = 3000
_ROOM: Final = 100


class Programs:
    """Runs the program and its mutants, one at a time, each in a process of its own."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._confinement = Confinement(bytes.fromhex(told["filter"]))
        self._work = told["work"]
        self._child = 0
        self._error = ""
        self._changes: list[mutants.Change] = []
        self._imported: dict[str, Any] = {}
        self._tree = ast.Module(body=[], type_ignores=[])
        try:
            self._code = compile(told["content"], "<program>", "exec", dont_inherit=True)
            self._look_into(told["content"], told["named"])
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._error = f"{type(error).__name__}: {error}"

    def _look_into(self, content: str, named: list[str]) -> None:
        """Find what it imports, and its mutants: none where its tree is deeper than can be compiled again.

        Raises:
            ValueError: it has too many names to be told.
        """
        with warnings.catch_warnings(action="ignore"):
            try:
                self._tree = ast.parse(content, "<program>")
                changes = mutants.changes(self._tree, named)
                # A mutant may be a little deeper, and what it raises would count as noticed.
                _compiled(self._tree, _DEPTH - _ROOM)
            except (RecursionError, MemoryError):
                changes = []
        self._imported = imports.imported(self._tree)
        self._changes = changes

    def ready(self) -> dict[str, Any]:
        """The kinds of the changes that can be made, what its text imports, and what is wrong with the program."""
        for name in _COMMON:
            __import__(name)
        program.make_quitters()
        # What is here is not looked at again by the collector of each run, and so not copied.
        gc.freeze()
        gc.enable()
        changes = [kind for kind, _ in self._changes]
        return {"changes": changes, "imported": self._imported, "error": self._error}

    def do(self, asked: dict[str, Any], descriptor: int) -> dict[str, Any]:
        """Start a run, or end it and say how it ended."""
        if asked["do"] == "stop":
            return {"status": self.stop(), "clean": self._cleared()}
        self._child = os.fork()
        if self._child == 0:
            self._confinement.enter({TALK: descriptor}, asked["cpu_seconds"])
            self._run(asked)
        os.close(descriptor)
        return {}

    def _run(self, asked: dict[str, Any]) -> NoReturn:
        status = 1
        try:
            if asked["mutant"] is not None:
                self._changes[asked["mutant"]][1]()
                mutants.locate(self._tree)
            # As it is it is compiled anew, too: by how long it takes then the time of its mutants is measured.
            code = _compiled(self._tree, _DEPTH) if self._changes else self._code
            del self._tree, self._changes, self._code
            run = program.run_script if asked["script"] else program.serve
            run(code, TALK)
            status = 0
        except SystemExit as error:
            status = 0 if error.code in (None, 0) else 1
        except BaseException:  # noqa: BLE001 - of a script that ends so the last words are kept
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def stop(self) -> int:
        """End the run, if there is one. Returns its exit status, negative for the signal that ended it."""
        if not self._child:
            return 0
        child, self._child = self._child, 0
        # One that has ended, or is about to, keeps its own status.
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _cleared(self) -> bool:
        """Leave no file for the next run. Returns whether there is none."""
        if stat.S_ISREG(os.fstat(_NULL).st_mode):  # without a sandbox it is a device, which keeps nothing
            os.ftruncate(_NULL, 0)
            os.lseek(_NULL, 0, os.SEEK_SET)
            os.fchmod(_NULL, _OPEN_TO_ALL)
            os.utime(_NULL, (0, 0))
        for folder, folders, files in os.walk(self._work, topdown=False):
            for name in files:
                _remove(os.unlink, f"{folder}/{name}")
            for name in folders:
                path = f"{folder}/{name}"
                _remove(os.unlink if os.path.islink(path) else os.rmdir, path)  # noqa: PTH114 - nor is pathlib loaded
        return not os.listdir(self._work)  # noqa: PTH208 - nor is pathlib loaded


def _compiled(tree: ast.Module, depth: int) -> types.CodeType:
    """The code of a tree. Raises RecursionError where it is deeper: a text may be so three times as deep as a tree."""
    most = sys.getrecursionlimit()
    sys.setrecursionlimit(depth)
    try:
        return compile(tree, "<program>", "exec", dont_inherit=True)
    finally:
        sys.setrecursionlimit(most)


def _remove(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except OSError:
        # Then the folder is not empty.
        return
