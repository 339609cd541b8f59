"""The other side of `gateway.workers.process`: reads tasks from a pipe, does them one at a time, and answers.

Run as `python -m gateway.workers.child TASKS WARM_UP PARENT_PID`. TASKS is the module whose `TASKS` says which function does which
task, as `name: "module:function"`; WARM_UP names the tasks to do before the first one is taken, with commas between them.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from gateway.domain.errors import GatewayError
from gateway.domain.payload import LARGE_PAYLOAD_BYTES, Payload, PayloadFile
from gateway.workers.failures import to_data
from gateway.workers.frames import PREFIX, decode, encode_head

Answer: TypeAlias = tuple[Mapping[str, Any], Sequence[bytes]]
"""What a task returns: a JSON object and blobs."""
TaskFunction: TypeAlias = Callable[[dict[str, Any], tuple[bytes, ...]], Answer]

_NO_MEMORY = "PyObject pointer is null"
"""What Rust libraries say when Python could not make an object for want of memory."""
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_MOST_FILES = 256
"""Files that a worker may have open at a time: it needs about forty."""
_LARGEST_FILE = 2**32
"""Bytes of the largest file that it may write: more than the largest answer."""


def main(tasks_module: str, warm_up: str, parent_pid: int) -> None:
    """Work until the pipe from the server is closed."""
    inbox, outbox = _take_over_pipes()
    _harden(parent_pid)
    tasks = Tasks(importlib.import_module(tasks_module).TASKS)
    for task in filter(None, warm_up.split(",")):
        tasks.function(task)({}, ())
    # Qiskit leaves hundreds of thousands of objects behind that never die: the collector need not look at them again.
    gc.freeze()
    _send(outbox, {"status": "ready"}, ())
    while (frame := _receive(inbox)) is not None:
        header, blobs = tasks.do(*frame)
        _send(outbox, header, blobs)
        # Nothing of one task is held while the next one is waited for.
        del frame, header, blobs


class Tasks:
    """Does tasks by name.

    Args:
        table: Name of each task, and where its function is, as `module:function`.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = table
        self.function = functools.cache(self._load)

    def _load(self, name: str) -> TaskFunction:
        module, _, function = self._table[name].partition(":")
        return cast("TaskFunction", getattr(importlib.import_module(module), function))

    def do(
        self, request: dict[str, Any], blobs: tuple[bytes | Path, ...]
    ) -> tuple[Mapping[str, Any], Sequence[Payload]]:
        """Do one task, and return the reply: an answer, an error for the caller, or word of a failure."""
        try:
            function = self.function(request["task"])
            with _memory_limit(request["memory_limit"]):
                read = tuple(blob.read_bytes() if isinstance(blob, Path) else blob for blob in blobs)
                header, answers = function(request["header"], read)
            results = _put_large_into_files(answers, request["large_to"])
        except GatewayError as error:
            return {"status": "error", "error": to_data(error)}, ()
        except MemoryError:
            return {"status": "out_of_memory"}, ()
        except BaseException as error:  # noqa: BLE001 - a panic of a Rust library is not an Exception
            if _NO_MEMORY in str(error):
                return {"status": "out_of_memory"}, ()
            traceback.print_exc()
            return {"status": "failed", "error": type(error).__name__}, ()
        return {"status": "done", "header": header}, results


def _put_large_into_files(answers: Sequence[bytes], prefix: str) -> list[Payload]:
    """Write large answers to the files that the server has named; no prefix: none."""
    results: list[Payload] = []
    for number, answer in enumerate(answers):
        if not prefix or len(answer) <= LARGE_PAYLOAD_BYTES:
            results.append(answer)
            continue
        path = Path(f"{prefix}.{number}")
        with path.open("xb") as file:
            file.write(answer)
        results.append(PayloadFile(path, len(answer)))
    return results


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for frames alone: what a library prints goes to standard error, and nobody can read from them."""
    inbox, outbox = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(inbox, "rb"), os.fdopen(outbox, "wb")


def _harden(parent_pid: int) -> None:
    # The server ends its workers itself. A signal to the whole process group must not turn its shutdown into failed jobs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # No program that it could be made to start has more rights than it has itself.
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the line above
            os._exit(0)
    # A core dump would write a caller's program to disk.
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
    ):
        hard = resource.getrlimit(what)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))
    os.umask(0o077)
    warnings.simplefilter("ignore")


@contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Let the process take only so many bytes more than it has now, where the system can say how many that are."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _receive(inbox: BinaryIO) -> tuple[dict[str, Any], tuple[bytes | Path, ...]] | None:
    prefix = inbox.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    header_size, payload_size = PREFIX.unpack(prefix)
    header, payload = inbox.read(header_size), inbox.read(payload_size)
    return decode(header, payload) if len(payload) == payload_size else None


def _send(outbox: BinaryIO, header: Mapping[str, Any], blobs: Sequence[Payload]) -> None:
    outbox.write(encode_head(header, blobs))
    outbox.writelines(blob for blob in blobs if isinstance(blob, bytes))
    outbox.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
