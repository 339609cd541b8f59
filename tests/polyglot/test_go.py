"""The Go example, built from clients/go and run against a real gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from qgateway import GatewayProvider

from tests.support.gateway_process import GatewayProcess

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
    built = subprocess.run(
        ["go", "build", "-buildvcs=false", "-o", program, "./examples/bell"],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
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
