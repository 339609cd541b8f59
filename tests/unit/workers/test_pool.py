"""The pool of worker processes: limits, crashes, cancellation, life and death of processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.domain.errors import InvalidArgument, Reason, ResourceExhausted, Unavailable, WorkerFailure
from gateway.domain.payload import PayloadFile
from gateway.workers import WorkerPool
from gateway.workers.frames import FrameError, decode, encode_head
from gateway.workers.process import Reply
from tests.support.waiting import until, wait_until

MIB = 2**20


@pytest.fixture
async def new_pool() -> AsyncIterator[Callable[..., WorkerPool]]:
    """Makes pools that do the sample tasks."""
    made: list[WorkerPool] = []

    def make(**settings: Any) -> WorkerPool:
        made.append(WorkerPool(**{"size": 1, "tasks": "tests.unit.workers.sample_tasks", **settings}))
        return made[-1]

    yield make
    for pool in made:
        await pool.close()


@pytest.fixture
def pool(new_pool: Callable[..., WorkerPool]) -> WorkerPool:
    return new_pool()


async def do(
    pool: WorkerPool, task: str, /, *blobs: bytes, seconds: float = 30.0, memory: int = 1024 * MIB, **header: Any
) -> Reply[bytes]:
    return await pool.run(task, header, *blobs, time_limit=seconds, memory_limit=memory)


async def pid_of(pool: WorkerPool) -> int:
    return int((await do(pool, "describe")).header["pid"])


async def test_a_process_has_no_more_rights_and_files_than_it_needs(pool: WorkerPool) -> None:
    proc = Path(f"/proc/{await pid_of(pool)}")
    status, limits = [await asyncio.to_thread((proc / name).read_text) for name in ("status", "limits")]
    assert "NoNewPrivs:\t1" in status
    assert "Umask:\t0077" in status
    values = {line[:26].strip(): line[26:].split() for line in limits.splitlines()[1:]}
    assert values["Max core file size"][:2] == ["0", "0"]
    assert values["Max open files"][:2] == ["256", "256"]
    assert values["Max file size"][:2] == [str(2**32)] * 2


async def test_a_task_gets_header_and_blobs_and_returns_the_same_kind(pool: WorkerPool) -> None:
    reply = await do(pool, "echo", b"", b"one", bytes(3 * MIB), value=1.5, text="é")
    assert reply == ({"value": 1.5, "text": "é"}, (b"", b"one", bytes(3 * MIB)))


async def test_a_process_stays_for_the_next_task(pool: WorkerPool) -> None:
    assert await pid_of(pool) == await pid_of(pool)


async def test_no_process_is_started_before_the_first_task(pool: WorkerPool) -> None:
    assert pool.pids() == ()
    await do(pool, "echo")
    assert len(pool.pids()) == 1


async def test_a_fresh_process_warms_up_before_it_takes_a_task(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(warm_up="warm_up")
    assert (await do(pool, "describe")).header["seen"] == ["warm_up"]


async def test_the_environment_of_the_server_stays_out_of_its_workers(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "canary")
    seen = (await do(pool, "describe")).header
    assert "canary" not in str(seen["environment"])
    assert seen["environment"]["OMP_NUM_THREADS"] == "1"
    assert seen["environment"]["HOME"] == seen["directory"]
    assert os.environ["HOME"] != seen["directory"]


async def test_what_a_library_prints_does_not_disturb_the_answer(pool: WorkerPool) -> None:
    assert (await do(pool, "print_much")).header == {"stdin": ""}


async def test_an_error_for_the_caller_comes_back_as_it_was(pool: WorkerPool) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await do(pool, "refuse")
    assert caught.value.message == "Bad."
    assert caught.value.reason is Reason.INVALID_PROGRAM
    assert caught.value.metadata == {"a": "b"}
    assert [violation.field for violation in caught.value.violations] == ["program.qpy.data", "program"]
    assert len(pool.pids()) == 1


async def test_an_unforeseen_error_tells_the_caller_no_detail(pool: WorkerPool) -> None:
    with pytest.raises(WorkerFailure, match="KeyError") as caught:
        await do(pool, "fail")
    assert caught.value.reason is Reason.WORKER_CRASHED
    assert "business" not in str(caught.value)


async def test_a_task_over_its_time_ends_with_its_process(pool: WorkerPool) -> None:
    pid = await pid_of(pool)
    with pytest.raises(WorkerFailure, match=r"0\.2 seconds") as caught:
        await do(pool, "sleep", seconds=0.2, pause=60)
    assert caught.value.reason is Reason.TIME_LIMIT_EXCEEDED
    await until(lambda: not psutil.pid_exists(pid))
    assert await pid_of(pool) != pid


async def test_a_task_over_its_memory_is_told_so(pool: WorkerPool) -> None:
    with pytest.raises(WorkerFailure, match="64 MiB") as caught:
        await do(pool, "allocate", size=100 * MIB, memory=64 * MIB)
    assert caught.value.reason is Reason.MEMORY_LIMIT_EXCEEDED
    assert (await do(pool, "allocate", size=100 * MIB, memory=200 * MIB)).header == {"size": 100 * MIB}


async def test_a_library_that_aborts_for_lack_of_memory_is_told_as_such(pool: WorkerPool) -> None:
    words = "memory allocation of 209715216 bytes failed"
    with pytest.raises(WorkerFailure) as caught:
        await do(pool, "die", signal=signal.SIGABRT, words=words)
    assert caught.value.reason is Reason.MEMORY_LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("how", "words"),
    [({"signal": signal.SIGSEGV}, "SIGSEGV"), ({"signal": signal.SIGKILL}, "SIGKILL"), ({"code": 3}, "exit code 3")],
)
async def test_a_crash_is_reported_and_the_next_task_gets_a_fresh_process(
    pool: WorkerPool, how: dict[str, int], words: str
) -> None:
    pid = await pid_of(pool)
    with pytest.raises(WorkerFailure, match=words) as caught:
        await do(pool, "die", **how)
    assert caught.value.reason is Reason.WORKER_CRASHED
    assert await pid_of(pool) != pid


async def test_a_process_that_dies_between_tasks_is_replaced_unnoticed(pool: WorkerPool) -> None:
    pid = await pid_of(pool)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pool.pids() == ())
    assert await pid_of(pool) != pid


async def test_an_answer_that_is_no_frame_ends_the_process(pool: WorkerPool) -> None:
    with pytest.raises(WorkerFailure, match="no sense"):
        await do(pool, "talk_nonsense")
    await do(pool, "echo")


async def test_an_answer_that_is_too_long_is_not_read(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(max_reply_bytes=MIB)
    with pytest.raises(WorkerFailure):
        await do(pool, "echo", bytes(2 * MIB))


async def test_a_large_blob_travels_as_a_file_both_ways_and_goes_with_its_last_holder(
    new_pool: Callable[..., WorkerPool], tmp_path: Path
) -> None:
    pool = new_pool(files=tmp_path)
    large = os.urandom(2 * MIB)
    sent = tmp_path / "sent"
    sent.write_bytes(large)
    reply = await pool.run_large(
        "echo", {}, b"small", PayloadFile(sent, len(large)), time_limit=30, memory_limit=1024 * MIB
    )
    small, file = reply.blobs
    assert small == b"small"
    assert isinstance(file, PayloadFile)
    assert file.size_bytes == len(large)
    assert file.path.parent == tmp_path
    assert file.path.read_bytes() == large
    path = file.path
    del reply, file
    assert not path.exists()
    assert sent.exists()


async def test_a_file_that_is_too_large_is_not_taken(new_pool: Callable[..., WorkerPool], tmp_path: Path) -> None:
    pool = new_pool(files=tmp_path, max_reply_bytes=2 * MIB)
    with pytest.raises(WorkerFailure):
        await pool.run_large("echo", {}, b"x" * (2 * MIB), b"y" * (3 * MIB), time_limit=30, memory_limit=1024 * MIB)
    await until(lambda: not any(path.is_file() for path in tmp_path.iterdir()))


@pytest.mark.parametrize("kind", ["link", "another", "directory"])
async def test_no_file_is_taken_but_the_one_that_was_named_for_it(
    new_pool: Callable[..., WorkerPool], tmp_path: Path, kind: str
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("of the server")
    pool = new_pool(files=files)
    with pytest.raises(WorkerFailure, match="no sense"):
        await pool.run_large(
            "answer_with_file", {"kind": kind, "other": str(secret)}, time_limit=30, memory_limit=1024 * MIB
        )
    assert secret.read_text() == "of the server"


async def test_cancelling_the_caller_ends_the_process_within_a_second(pool: WorkerPool, tmp_path: Path) -> None:
    pid = await pid_of(pool)
    sign = tmp_path / "at work"
    work = asyncio.create_task(do(pool, "sleep", pause=60, sign=str(sign)))
    await until(sign.exists)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await until(lambda: not psutil.pid_exists(pid), within=1.0)
    assert await pid_of(pool) != pid


async def test_a_worker_lives_through_the_signals_that_stop_the_server(pool: WorkerPool) -> None:
    pid = await pid_of(pool)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert await pid_of(pool) == pid


async def test_a_process_is_replaced_after_its_share_of_tasks(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(tasks_per_process=2)
    pids = [await pid_of(pool) for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


async def test_an_idle_process_is_ended(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(idle_seconds=0.05)
    pid = await pid_of(pool)
    await until(lambda: not psutil.pid_exists(pid))
    assert pool.pids() == ()
    assert await pid_of(pool) != pid


async def test_tasks_wait_in_line(pool: WorkerPool) -> None:
    done: list[int] = []

    async def one(number: int) -> None:
        await do(pool, "echo", number=number)
        done.append(number)

    await asyncio.gather(*(one(number) for number in range(20)))
    assert done == list(range(20))


async def test_as_many_tasks_run_at_a_time_as_there_are_processes(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(size=2)
    pids = await asyncio.gather(*(pid_of(pool) for _ in range(20)))
    assert len(set(pids)) == 2


async def test_the_line_is_bounded(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(max_waiting=1)
    first, second = (asyncio.create_task(do(pool, "echo", number=number)) for number in range(2))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as caught:
        await do(pool, "echo")
    assert caught.value.retry_after is not None
    await asyncio.gather(first, second)


async def test_a_cancelled_caller_leaves_the_line(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(max_waiting=1)
    first, second = (asyncio.create_task(do(pool, "echo", number=number)) for number in range(2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(do(pool, "echo", number=3))
    assert (await first).header == {"number": 0}
    assert (await third).header == {"number": 3}


async def test_closing_ends_work_and_processes(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool()
    pid = await pid_of(pool)
    running = asyncio.create_task(do(pool, "sleep", pause=60))
    waiting = asyncio.create_task(do(pool, "echo"))
    await asyncio.sleep(0)
    directory = Path((psutil.Process(pid)).cwd())
    await pool.close()
    for task in (running, waiting):
        with pytest.raises(Unavailable) as caught:
            await task
        assert caught.value.reason is Reason.SERVER_STOPPING
    assert not psutil.pid_exists(pid)
    assert not directory.exists()  # noqa: ASYNC240
    with pytest.raises(Unavailable):
        await do(pool, "echo")


async def test_closing_ends_a_process_that_is_being_started(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool()
    before = {child.pid for child in psutil.Process().children()}
    work = asyncio.create_task(do(pool, "echo"))
    await until(lambda: {child.pid for child in psutil.Process().children()} - before)
    await pool.close()
    with pytest.raises(Unavailable):
        await work
    assert {child.pid for child in psutil.Process().children()} == before


async def test_a_process_that_cannot_start_is_a_failure_and_not_a_wait(new_pool: Callable[..., WorkerPool]) -> None:
    pool = new_pool(warm_up="die")
    with pytest.raises(Unavailable, match="could not be started"):
        await do(pool, "echo")


def test_workers_die_with_a_server_that_is_killed(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from gateway.domain.payload import PayloadFile
from gateway.workers import WorkerPool

async def main():
    pool = WorkerPool(size=1, tasks="tests.unit.workers.sample_tasks")
    await pool.run("echo", {}, time_limit=30, memory_limit=2**30)
    print(pool.pids()[0], flush=True)
    await pool.run("sleep", {"pause": 60}, time_limit=60, memory_limit=2**30)

asyncio.run(main())
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        server.kill()
    wait_until(lambda: not psutil.pid_exists(pid))


def test_the_server_side_imports_neither_qiskit_nor_numpy() -> None:
    program = (
        "import sys, gateway.workers, gateway.providers.local\n"
        "heavy = {'qiskit', 'qiskit_aer', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("blobs", [(), (b"",), (b"a", b"", b"bc")])
def test_a_frame_is_read_as_it_was_written(blobs: tuple[bytes, ...]) -> None:
    head = encode_head({"a": [1, None]}, blobs)
    assert decode(head[12:], b"".join(blobs)) == ({"a": [1, None]}, blobs)


@pytest.mark.parametrize(
    "header", [b"", b"[]", b"{}", b'{"blobs": [2]}', b'{"blobs": [-1, 2]}', b'{"blobs": "x"}', b"\xff"]
)
def test_what_is_no_frame_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        decode(header, b"a")
