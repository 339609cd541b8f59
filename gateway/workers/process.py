"""One worker process, as the server sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import uuid4

import structlog

from gateway.domain.errors import Reason, Unavailable, WorkerFailure
from gateway.domain.payload import Payload, PayloadFile
from gateway.workers.failures import from_data
from gateway.workers.frames import MAX_HEADER_BYTES, PREFIX, FrameError, decode, encode_head

_log = structlog.get_logger(__name__)

_Blob = TypeVar("_Blob", bound=Payload)

_STDERR_BYTES = 8 * 1024
"""How much of the end of its standard error is kept, for the log."""
_READ_BYTES = 256 * 1024
_RETRY_SECONDS = 5.0
_EXIT_SECONDS = 5.0
"""How long a process may take to end after it closed its pipe."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "LC_ALL")
"""Variables that a worker gets from the server. All others stay behind: some hold secrets."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Variables by which libraries are kept to one thread: the number of processes says how much runs at a time."""

_OUT_OF_MEMORY_WORDS = (b"memory allocation of", b"std::bad_alloc")
"""Last words of a process whose libraries abort when they get no memory."""


class Call(NamedTuple):
    """A task to do."""

    task: str
    header: Mapping[str, Any]
    blobs: tuple[Payload, ...]
    memory_limit: int
    """Most memory in bytes that it may take beyond what the process has before."""
    files_allowed: bool = False
    """Whether it may put large blobs of its answer into files."""


class Reply(NamedTuple, Generic[_Blob]):
    """What a task answered."""

    header: dict[str, Any]
    blobs: tuple[_Blob, ...]


class ProcessLost(Exception):
    """The process is of no more use.

    Args:
        failure: What to tell the caller of the task.
    """

    def __init__(self, failure: WorkerFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How worker processes are started."""

    tasks: str
    """Module with the table of tasks."""
    warm_up: str
    """Tasks to do before the first one is taken, with commas between them."""
    directory: str
    """Working directory, home and place for temporary files."""
    start_seconds: float
    """Longest time from the start to the sign that it is ready."""
    max_reply_bytes: int
    """Largest reply that is read, and largest file that is taken."""
    files: Path
    """Where large blobs of answers are put."""

    def environment(self) -> dict[str, str]:
        """Return all variables that a process sees."""
        return {
            **{name: value for name in _PASSED_ON if (value := os.environ.get(name)) is not None},
            **dict.fromkeys(_ONE_THREAD, "1"),
            # A child finds the modules that its parent finds, wherever the server was started.
            "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
            "PYTHONUTF8": "1",
            "QISKIT_PARALLEL": "FALSE",
            "HOME": self.directory,
            "TMPDIR": self.directory,
        }


class WorkerProcess:
    """A running worker process. It does one task at a time. Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, max_reply_bytes: int, files: Path) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("a worker process needs three pipes")
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._max_reply_bytes = max_reply_bytes
        self._files = files / uuid4().hex
        self._unfinished = ""
        """Path of the files of the call that is under way, without their numbers."""
        self._last_words = b""
        self._life = asyncio.create_task(self._live(), name=f"worker {process.pid}")
        self.calls = 0
        """Number of tasks that it was given."""

    @classmethod
    async def start(cls, spec: ProcessSpec) -> WorkerProcess:
        """Start a process and wait until it is ready.

        Raises:
            Unavailable: It did not become ready.
        """
        arguments = [spec.tasks, spec.warm_up, str(os.getpid())]
        process = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working directory is no place to look for modules
                "-m",
                "gateway.workers.child",
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=spec.environment(),
                cwd=spec.directory,
                start_new_session=True,
                limit=_READ_BYTES,
            ),
            spec.max_reply_bytes,
            spec.files,
        )
        try:
            async with asyncio.timeout(spec.start_seconds):
                await process._receive()
        except BaseException as error:
            process.kill()
            await process.ended()
            if not isinstance(error, (TimeoutError, FrameError, EOFError, OSError)):
                raise
            _log.error(
                "worker_not_started",
                pid=process.pid,
                exit_code=process._process.returncode,
                error=repr(error),
                stderr=process.last_words(),
            )
            raise Unavailable(
                "A worker process could not be started. This is a fault of the server: its log says more.",
                reason=Reason.WORKER_CRASHED,
                retry_after=_RETRY_SECONDS,
            ) from error
        return process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a task."""
        return self._process.returncode is None and not self._stdout.at_eof()

    async def call(self, call: Call) -> Reply[Payload]:
        """Do a task and wait for its answer.

        Raises:
            GatewayError: What the task wants its caller to see.
            ProcessLost: The task ran out of memory or failed, or the process died or answered nonsense.
        """
        self.calls += 1
        self._last_words = b""
        self._unfinished = f"{self._files}-{self.calls}" if call.files_allowed else ""
        request = {
            "task": call.task,
            "memory_limit": call.memory_limit,
            "header": call.header,
            "large_to": self._unfinished,
        }
        head = encode_head(request, call.blobs)
        try:
            self._stdin.writelines((head, *(blob for blob in call.blobs if isinstance(blob, bytes))))
            await self._stdin.drain()
            reply, results = await self._receive()
            if reply["status"] == "done":
                done = Reply(dict(reply["header"]), tuple(map(self._take, range(len(results)), results)))
                self._unfinished = ""
                return done
            error = from_data(reply["error"]) if reply["status"] == "error" else None
        except (EOFError, OSError) as lost:
            raise ProcessLost(await self._cause_of_death(call.memory_limit)) from lost
        except (FrameError, LookupError, TypeError, ValueError, AttributeError) as nonsense:
            raise ProcessLost(WorkerFailure("The worker process gave an answer that makes no sense.")) from nonsense
        if error is not None:
            raise error
        if reply["status"] == "out_of_memory":
            raise ProcessLost(_out_of_memory(call.memory_limit))
        raise ProcessLost(WorkerFailure(f"The work failed in a way that nobody foresaw ({reply.get('error')})."))

    def kill(self) -> None:
        """End the process at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> None:
        """Wait until the process has ended and everything of it is released."""
        await asyncio.shield(self._life)

    def last_words(self) -> str:
        """Return the end of its standard error during the last task. For the log only."""
        return self._last_words.decode(errors="replace")

    def _take(self, number: int, blob: bytes | Path) -> Payload:
        """Take a blob over. A file goes when nobody holds it any more, unless it was moved."""
        if isinstance(blob, bytes):
            return blob
        if not self._unfinished or str(blob) != f"{self._unfinished}.{number}":
            raise FrameError("an answer stands in a file that was not named for it")
        status = blob.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise FrameError("an answer stands in something that is no file")
        if status.st_size > self._max_reply_bytes:
            raise FrameError(f"a reply of {status.st_size} bytes is too long")
        file = PayloadFile(blob, status.st_size)
        weakref.finalize(file, blob.unlink, missing_ok=True)
        return file

    async def _receive(self) -> tuple[dict[str, Any], tuple[bytes | Path, ...]]:
        header_size, payload_size = PREFIX.unpack(await self._stdout.readexactly(PREFIX.size))
        if header_size > MAX_HEADER_BYTES or payload_size > self._max_reply_bytes:
            raise FrameError(f"a reply of {header_size + payload_size} bytes is too long")
        header = await self._stdout.readexactly(header_size)
        return decode(header, await self._stdout.readexactly(payload_size))

    async def _live(self) -> None:
        """Take what the process writes to standard error, so that it never waits for a reader, until it ends."""
        while chunk := await self._stderr.read(_STDERR_BYTES):
            self._last_words = (self._last_words + chunk)[-_STDERR_BYTES:]
        await self._process.wait()
        if self._unfinished:
            for file in self._files.parent.glob(f"{Path(self._unfinished).name}.*"):
                with suppress(OSError):
                    file.unlink()

    async def _cause_of_death(self, memory_limit: int) -> WorkerFailure:
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                await self.ended()
        except TimeoutError:
            self.kill()
            await self.ended()
        if any(words in self._last_words for words in _OUT_OF_MEMORY_WORDS):
            return _out_of_memory(memory_limit)
        code = self._process.returncode or 0
        ending = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return WorkerFailure(
            f"The process that did the work {ending}. If that happens again, make the work smaller: the machine may be "
            "short of memory, or the program may crash the simulator."
        )


def _out_of_memory(limit: int) -> WorkerFailure:
    return WorkerFailure(
        f"The work needs more memory than the {limit / 2**20:.0f} MiB that it may take. Use fewer qubits, gates or shots.",
        reason=Reason.MEMORY_LIMIT_EXCEEDED,
        metadata={"memory_limit_bytes": str(limit)},
    )
