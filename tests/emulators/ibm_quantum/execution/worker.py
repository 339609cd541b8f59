"""The process in which programs run, so that the server goes on answering meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import orjson

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.execution.hardware import Description, describe, machine
from tests.emulators.ibm_quantum.execution.outcome import Outcome, ProgramError

PROGRAMS = ("executor", "sampler", "estimator")

_REMEMBERED = 500


class Worker:
    """Runs programs, one after the other, in a process of its own.

    What a program computes depends only on the program, its device and the seed; so it is computed once, and
    remembered.
    """

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare)
        self._outcomes: OrderedDict[bytes, asyncio.Future[Outcome]] = OrderedDict()

    async def describe(self) -> list[Description]:
        """Return the devices."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, describe)

    async def run(
        self, program: str, params: dict[str, Any], device: str, *, seed: int, noise: bool, max_qpy_version: int
    ) -> Outcome:
        """Run a program; a program that cannot be run has an outcome too.

        Args:
            program: One of `PROGRAMS`.
            params: As submitted.
            device: Name of the device.
            seed: Together with the program it decides the result.
            noise: Whether the device's noise is simulated.
            max_qpy_version: The newest QPY version that `executor` reads.
        """
        job = orjson.dumps([program, params, device, seed, noise, max_qpy_version], option=orjson.OPT_SORT_KEYS)
        key = hashlib.sha256(job).digest()
        if key not in self._outcomes:
            self._outcomes[key] = asyncio.get_running_loop().run_in_executor(self._pool, _run, job, key)
            if len(self._outcomes) > _REMEMBERED:
                self._outcomes.popitem(last=False)
        # The waiting job may be cancelled; others may wait for the same outcome.
        return await asyncio.shield(self._outcomes[key])

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """Import what programs need before the first one comes, and see to it that the process ends with its parent."""
    # Ctrl+C in a terminal reaches this process too; the parent alone decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

    from tests.emulators.ibm_quantum.execution import executor, primitives

    del executor, primitives


def _run(job: bytes, key: bytes) -> Outcome:
    from tests.emulators.ibm_quantum.execution import executor, primitives

    program, params, device, _, noise, max_qpy_version = orjson.loads(job)
    seed = int.from_bytes(key[:4]) >> 1
    where = machine(device, noise=noise)
    try:
        if program == "executor":
            return executor.run(params, where, seed, max_qpy_version)
        run = {"sampler": primitives.run_sampler, "estimator": primitives.run_estimator}[program]
        return run(params, where, seed)
    except ProgramError as error:
        solution = "Transpile the circuits for the backend, and check the program."
        return Outcome(error.message, failure_code=error.code, failure=error.message, solution=solution)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a program is the job's failure
        text = "".join(traceback.format_exception(error))
        return Outcome(text, failure_code=Code.INTERNAL, failure="Internal error.", solution="Try again.")
