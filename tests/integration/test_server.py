"""The server's process: start, stop, kill, restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from qgateway.v1 import job_pb2, job_service_pb2, server_service_pb2

from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import LONG, connected, details, submission

NewGateway = Callable[..., GatewayProcess]


def test_killed_with_ten_jobs_queued_and_two_running_it_finishes_all_twelve(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"ACCOUNTS__LOCAL__PARALLEL_JOBS": "2", "ACCOUNTS__LOCAL__PROVIDER": "local"})
    gateway.start(FAILPOINTS="run.ended=delay:3600")  # however slow the machine, the first two run until the kill
    with connected(gateway) as wire:
        running = [wire.submit(LONG, options=job_pb2.RunOptions(shots=10)).name for _ in range(2)]
        queued = [wire.submit(tags=[f"n{index}"]).name for index in range(10)]
        for name in running:
            wire.reach(name, job_pb2.JOB_STATUS_RUNNING)
        assert [wire.get(name).status for name in queued] == [job_pb2.JOB_STATUS_QUEUED] * 10
        assert [wire.get(name).queue.position for name in queued] == list(range(10))
    workers = psutil.Process(gateway.pid).children(recursive=True)
    gateway.kill()
    wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))

    gateway.start()
    with connected(gateway) as wire:
        for name in (*running, *queued):
            job = wire.finish(name, timeout=100)
            assert job.status == job_pb2.JOB_STATUS_DONE, job
            assert job.submission.attempts == 2
        assert sum(wire.counts(running[0])[0].values()) == 10
        for name in queued:
            (counts,) = wire.counts(name)
            assert set(counts) <= {"00", "11"}
            assert sum(counts.values()) == 4000
        starts = [wire.get(name).start_time.ToNanoseconds() for name in queued]
        assert starts == sorted(starts)
    assert gateway.stop() == 0


def test_sigterm_tells_watches_to_come_back_refuses_new_jobs_and_ends_with_zero(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    with connected(gateway) as wire:
        name = wire.submit(LONG).name
        watch = wire.watch(name)
        next(watch)
        os.kill(gateway.pid, signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            for _ in watch:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(caught.value)["ErrorInfo"].reason == "SERVER_STOPPING"
        assert details(caught.value)["RetryInfo"].retry_delay.ToMilliseconds() > 0
    assert gateway.stop() == 0
    gateway.start()
    with connected(gateway) as wire:
        assert wire.finish(name).status == job_pb2.JOB_STATUS_DONE


def test_it_answers_health_and_reflection_without_a_key_and_nothing_else(gateway: GatewayProcess) -> None:
    with connected(gateway) as wire:
        health = health_pb2_grpc.HealthStub(wire.channel)
        for service in ("", "qgateway.v1.JobService", "account/local"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        services = set(ProtoReflectionDescriptorDatabase(wire.channel).get_services())
        assert {"qgateway.v1.JobService", "qgateway.v1.AdminService", "grpc.health.v1.Health"} <= services
        with pytest.raises(grpc.RpcError) as caught:
            wire.server.GetServerInfo(server_service_pb2.GetServerInfoRequest(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_the_command_asks_for_health(gateway: GatewayProcess) -> None:
    command = [sys.executable, "-m", "gateway", "health", "--target"]
    alive = subprocess.run([*command, gateway.target], capture_output=True, text=True, timeout=30, check=False)
    assert (alive.returncode, alive.stdout.strip()) == (0, "SERVING")
    typo = [*command, gateway.target, "--service", "account/typo"]
    unknown = subprocess.run(typo, capture_output=True, text=True, timeout=30, check=False)
    assert (unknown.returncode, unknown.stdout.strip()) == (1, "NOT_FOUND: the server has no such service")
    dead = subprocess.run([*command, "127.0.0.1:1"], capture_output=True, text=True, timeout=30, check=False)
    assert dead.returncode == 1


def test_a_server_that_is_killed_leaves_nothing_that_its_next_start_does_not_remove(
    new_gateway: NewGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, store = tmp_path / "tmp", tmp_path / "store"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    gateway = new_gateway()
    for _ in range(2):
        gateway.start()
        with connected(gateway) as wire:
            wire.finish(wire.submit().name)  # in a worker, which has a folder of its own
        assert len(list((store / "qgateway.db.files" / "new").iterdir())) == 1
        gateway.kill()
    gateway.start()
    assert gateway.stop() == 0
    assert list((store / "qgateway.db.files" / "new").iterdir()) == []
    assert {path.name for path in store.iterdir()} == {"qgateway.db", "qgateway.db.files", "qgateway.db.lock"}
    assert list(temporary.iterdir()) == []


def test_a_second_server_on_the_same_store_is_refused_with_a_reason(new_gateway: NewGateway, tmp_path: Path) -> None:
    new_gateway().start()
    second = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--dev", "--listen", "127.0.0.1:0"],
        env=os.environ | {"GATEWAY_STORE__PATH": str(tmp_path / "store" / "qgateway.db")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 2
    assert "qgateway.db" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_is_refused_with_a_reason(gateway: GatewayProcess, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--dev", "--listen", gateway.target],
        env=os.environ | {"GATEWAY_STORE__PATH": str(tmp_path / "other.db")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 2
    assert "server.listen" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dev", "--listen", "0.0.0.0:0"], "is not loopback"),
        ([], "There are no API keys"),
        (["--config", "/nowhere.toml"], "There is no configuration file"),
    ],
)
def test_a_server_that_cannot_be_started_says_why(arguments: list[str], says: str, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert process.returncode == 2
    assert says in process.stderr
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_the_command_is_being_loaded_ends_it_quietly() -> None:
    program = """
import signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from gateway.__main__ import main
main()
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


def test_the_server_never_imports_qiskit_or_numpy(gateway: GatewayProcess) -> None:
    with connected(gateway) as wire:
        wire.finish(wire.submit().name)
    maps = Path(f"/proc/{gateway.pid}/maps").read_text()
    assert "qiskit" not in maps
    assert "numpy" not in maps


def test_accepted_jobs_survive_a_kill_at_any_moment(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    accepted = []
    with connected(gateway) as wire:
        futures = [
            wire.jobs.SubmitJob.future(submission(tags=[str(index)]), metadata=wire.metadata, timeout=30)
            for index in range(40)
        ]
        accepted.append(futures[0].result().job.name)
        gateway.kill()
        accepted += [future.result().job.name for future in futures if future.exception() is None]
    gateway.start()
    with connected(gateway) as wire:
        for name in set(accepted):
            assert wire.finish(name).status == job_pb2.JOB_STATUS_DONE
        assert len(wire.list()) >= len(set(accepted))
        assert all(job.status == job_pb2.JOB_STATUS_DONE for job in (wire.finish(each.name) for each in wire.list()))


def test_a_repeated_request_after_a_kill_gives_the_same_job(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    with connected(gateway) as wire:
        first = wire.submit(request_id="again")
    gateway.kill()
    gateway.start()
    with connected(gateway) as wire:
        response = wire.jobs.SubmitJob(submission(request_id="again"), metadata=wire.metadata, timeout=30)
        assert (response.job.name, response.duplicate) == (first.name, True)
        assert len(wire.list()) == 1


def test_a_watch_resumes_over_a_restart(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    with connected(gateway) as wire:
        name = wire.submit(LONG, options=job_pb2.RunOptions(shots=10)).name
        token = next(wire.watch(name)).resume_token
    gateway.kill()
    gateway.start()
    with connected(gateway) as wire:
        request = job_service_pb2.WatchJobRequest(name=name, resume_token=token)
        seen = [
            response.event
            for response in wire.jobs.WatchJob(request, metadata=wire.metadata, timeout=60)
            if response.HasField("event")
        ]
        history = wire.jobs.ListJobEvents(
            job_service_pb2.ListJobEventsRequest(name=name), metadata=wire.metadata, timeout=10
        ).events
        assert [event.revision for event in seen] == [event.revision for event in history][-len(seen) :]
        assert seen[-1].job.status == job_pb2.JOB_STATUS_DONE


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads are scheduled in other ways")
def test_the_thread_that_collects_for_the_event_loop_does_not_interrupt_it(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    tasks, name = Path(f"/proc/{gateway.pid}/task"), Path(f"/proc/{gateway.pid}/comm").read_text()

    def patient() -> list[int]:
        # Threads of Python are called like their process; those of gRPC's core soon take names of their own.
        of_python = [int(thread.name) for thread in tasks.iterdir() if (thread / "comm").read_text() == name]
        return [thread for thread in of_python if os.sched_getscheduler(thread) == os.SCHED_BATCH]

    wait_until(lambda: len(patient()) == 1)
    assert gateway.pid not in patient()
