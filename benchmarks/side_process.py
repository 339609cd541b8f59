"""A process beside the benchmark that answers commands, a line each: what makes the load, so that it does not slow the measure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class SideProcess:
    """A process that answers commands.

    Args:
        process: The process; its input and its output are pipes of text.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def command(self, command: str) -> None:
        """Give it a command."""
        self._stdin.write(command + "\n")
        self._stdin.flush()

    def answer(self) -> str:
        """Return its answer to the oldest command that it has not answered yet.

        Raises:
            RuntimeError: It ended instead.
        """
        line = self._stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark failed; what it wrote stands above")
        return line


@contextmanager
def side_process(module: str, *arguments: str) -> Iterator[SideProcess]:
    """Run a module as a process; the end of its input ends it."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield SideProcess(process)
        process.communicate()
