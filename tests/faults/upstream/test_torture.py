"""A slice of `make torture-upstream`."""

from __future__ import annotations

from collections.abc import Callable

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.torture import Torture
from tests.support.gateway_process import GatewayProcess


async def test_under_random_faults_and_kills_every_job_runs_exactly_once(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, seed: int
) -> None:
    outcome = await Torture(new_lab_gateway().start(), control, seed).run(submits=120, kills=1)
    assert outcome.is_right, f"seed {seed}: {outcome}"
    assert outcome.faults > 20
    assert outcome.doubts
