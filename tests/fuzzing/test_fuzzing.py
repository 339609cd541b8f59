"""A slice of what `make fuzz` tries, with a seed of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.fuzzing.parsers import ParserFuzzer
from tests.fuzzing.port import PortFuzzer
from tests.fuzzing.programs import ProgramFuzzer, circuits, openqasm_program, qpy_program
from tests.fuzzing.rpcs import RpcFuzzer
from tests.fuzzing.victim import SETTINGS, Victim
from tests.support.gateway_process import GatewayProcess

SEED = 7


async def test_no_request_and_no_bytes_on_the_port_harm_the_server(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, SETTINGS).start()
    try:
        victim = Victim(gateway)
        rpcs = RpcFuzzer(gateway.target, gateway.api_key, SEED, circuits())
        port = PortFuzzer(gateway.target, gateway.api_key, SEED)
        await rpcs.run(200)
        await port.run(60)
        victim.warmed_up()
        await rpcs.run(1_000)
        await port.run(250)
        victim.answers()
        assert rpcs.tally.wrong == []
        assert victim.troubles() == []
        assert {name.split()[0] for name in rpcs.tally.counts} >= {"SubmitJob", "GetJob", "WatchJobs", "CreateApiKey"}
        assert rpcs.tally.counts["SubmitJob OK"] > 0, "all requests are refused at the gate"
        assert gateway.stop() == 0
    finally:
        gateway.kill()


async def test_damaged_programs_are_refused_and_cost_no_worker() -> None:
    for fuzzer, inputs in (
        (ProgramFuzzer("qpy", partial(qpy_program, files=circuits()), SEED), 80),
        (ProgramFuzzer("openqasm", openqasm_program, SEED), 250),
    ):
        await fuzzer.run(inputs)
        assert fuzzer.tally.wrong == []
        assert fuzzer.tally.counts["refused"] > inputs / 2
        assert fuzzer.tally.counts["read"] > 0


async def test_parsers_of_the_server_raise_only_what_they_may() -> None:
    fuzzer = ParserFuzzer(SEED)
    await fuzzer.run(3_000)
    assert fuzzer.tally.wrong == []


def test_atheris_finds_nothing_that_a_parser_does_not_foresee(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.guided", "wire", "2000", str(SEED), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "number_of_executed_units: 2000" in done.stderr
