"""The Go client: its own tests, and its example and its watches against a real gateway."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from qgateway import GatewayProvider
from qgateway.v1 import job_pb2, job_service_pb2

from tests.support.gateway_process import GatewayProcess, kill_and_restart
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until
from tests.support.wire import LONG, Wire, connected

CLIENT = Path(__file__).parents[2] / "clients" / "go"

pytestmark = [
    pytest.mark.go,
    # The first build fetches modules and compiles gRPC.
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go toolchain on the PATH"),
]


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as a program."""
    program = tmp_path_factory.mktemp("go") / "bell"
    return built(program, "build", "-buildvcs=false", "-o", str(program), "./examples/bell")


@pytest.fixture(scope="module")
def follow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of the watches as a program: one of them prints what a gateway tells."""
    program = tmp_path_factory.mktemp("go") / "follow"
    return built(program, "test", "-c", "-o", str(program), "./watch")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that can be killed, runs one job at a time, and gives a sign of life often."""
    settings = {"SERVER__HEARTBEAT_INTERVAL": "0.5", "ACCOUNTS__LOCAL__PROVIDER": "local"}
    process = GatewayProcess(tmp_path, {**settings, "ACCOUNTS__LOCAL__PARALLEL_JOBS": "1"}, "canary-of-the-go-watches")
    yield process.start()
    process.kill()


@pytest.fixture
def proxy(server: GatewayProcess) -> Iterator[TcpProxy]:
    with TcpProxy(server.target) as made:
        yield made


def built(program: Path, *command: str) -> Path:
    done = subprocess.run(["go", *command], cwd=CLIENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return program


def run(program: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program], env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_go_example_submits_watches_and_prints_the_counts_that_python_reads_too(
    bell: Path, gateway: GatewayProcess
) -> None:
    done = run(bell, **gateway.environment())
    assert done.returncode == 0, done.stderr

    lines = [line.split() for line in done.stdout.splitlines()]
    steps = [(name, status) for name, status in lines if name.startswith("jobs/")]
    counts = {outcome: int(count) for outcome, count in lines if not outcome.startswith("jobs/")}
    assert len({name for name, _ in steps}) == 1
    assert steps[-1][1] == "JOB_STATUS_DONE"
    assert counts.keys() == {"00", "11"}
    assert sum(counts.values()) == 1000

    provider = GatewayProvider(target=gateway.target, api_key=gateway.api_key)
    assert provider.retrieve_job(steps[-1][0].removeprefix("jobs/")).result().get_counts() == counts


def test_the_go_example_says_what_is_wrong_with_its_key(bell: Path, gateway: GatewayProcess) -> None:
    refused = run(bell, QGATEWAY_TARGET=gateway.target, QGATEWAY_API_KEY="wrong")
    assert refused.returncode == 1
    assert "Unauthenticated" in refused.stderr
    assert "API key" in refused.stderr


def test_the_tests_of_the_go_client_pass() -> None:
    done = subprocess.run(["go", "test", "-count=1", "./..."], cwd=CLIENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_go_example_goes_on_after_a_cut(bell: Path, server: GatewayProcess, proxy: TcpProxy) -> None:
    with connected(server) as wire:
        before = wire.submit(LONG, options=job_pb2.RunOptions(shots=1)).name
        environment = os.environ | {"QGATEWAY_TARGET": proxy.target, "QGATEWAY_API_KEY": server.api_key}
        with subprocess.Popen([bell], env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().split()[1] in {"JOB_STATUS_INITIALIZING", "JOB_STATUS_QUEUED"}
            accepted = proxy.accepted
            proxy.cut()
            wait_until(lambda: proxy.accepted > accepted)
            wire.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=before), metadata=wire.metadata, timeout=20)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [line.split()[1] for line in output.splitlines() if line.startswith("jobs/")]
    assert lines.count("JOB_STATUS_DONE") == 1
    assert sum(int(line.split()[1]) for line in output.splitlines() if not line.startswith("jobs/")) == 1000


def test_a_watch_in_go_tells_each_event_once_whatever_happens_to_the_connection(
    follow: Path, server: GatewayProcess, proxy: TcpProxy
) -> None:
    jobs, seen = 6, []
    environment = os.environ | {
        "QGATEWAY_TARGET": proxy.target,
        "QGATEWAY_API_KEY": server.api_key,
        "FOLLOW_TAG": "counted",
        "FOLLOW_JOBS": str(jobs + 1),
    }
    command = [follow, "-test.run", "TestFollowARealGateway", "-test.timeout", "100s"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stdout = process.stdout
        reader = threading.Thread(target=lambda: seen.extend(line.split()[1:] for line in stdout if "jobs/" in line))
        reader.start()
        with connected(server) as wire:
            # From the first event on the watch has a token of its own.
            first = sacrificed(wire, seen)
        harm = itertools.cycle([proxy.cut, lambda: kill_and_restart(server, proxy), lambda: proxy.stall(new=False)])
        names = []
        for _ in range(jobs):
            with connected(server) as wire:
                names.append(wire.submit(tags=["counted"]).name)
            next(harm)()
        with connected(server) as wire:
            for name in names:
                wire.finish(name)
            histories = {name: wire.history(name) for name in names}
            due = set().union(*histories.values())
            wait_until(lambda: due <= {int(line[1]) for line in seen}, within=60)
            for name in (first, *names):
                wire.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=name), metadata=wire.metadata, timeout=10)
        reader.join(60)
        assert process.wait(10) == 0
    revisions = [int(line[1]) for line in seen]
    assert revisions == sorted(set(revisions))
    told = {name: [int(line[1]) for line in seen if line[0] == name and line[2] != "TYPE_DELETED"] for name in names}
    assert told == histories


def sacrificed(wire: Wire, seen: list[list[str]]) -> str:
    """Submit a job and change its name until a watch tells of it; return the job's name."""
    name = wire.submit(tags=["counted"]).name
    wire.finish(name)

    def renamed() -> bool:
        request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=name, display_name="told?"))
        request.update_mask.paths.append("display_name")
        wire.jobs.UpdateJob(request, metadata=wire.metadata, timeout=10)
        return bool(seen)

    wait_until(renamed)
    return name
