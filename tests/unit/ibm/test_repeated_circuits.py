"""Circuits that were just written for the service are not written again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from qgateway.v1 import result_pb2

from gateway.domain.errors import Unavailable
from gateway.domain.job import JobStatus, RunOptions
from gateway.domain.payload import PayloadFile
from gateway.store.spool import FileSpool
from gateway.workers import WorkerPool
from gateway.workers.recent_parameters import RecentParameters
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.unit.ibm.conftest import Account, Bench
from tests.unit.ibm.make import PROGRAM

OPTIONS = RunOptions(shots=16, transpile=1)


async def test_circuits_are_written_once_for_jobs_that_differ_by_name_only(
    new_account: Callable[..., Account], control: EmulatorControl, tmp_path: Path
) -> None:
    pool = WorkerPool(size=1, warm_up="warm_up_programs")
    bench = Bench(new_account(), pool, FileSpool(tmp_path / "spool"))
    try:
        submission = await bench.submission(PROGRAM, OPTIONS, marker="first")
        first = await bench.provider.submit(submission)
        await pool.close()  # nobody can write circuits any more
        second = await bench.provider.submit(replace(submission, marker="second", job_name="jobs/second"))
        for other in (
            replace(submission, options=replace(OPTIONS, shots=17)),
            replace(submission, program=replace(submission.program, circuits=submission.program.circuits + b" ")),
        ):
            with pytest.raises(Unavailable):
                await bench.provider.submit(other)
    finally:
        await bench.provider.close()
        await pool.close()
    programs = [control.job(update.provider_job_id)["params"] for update in (first, second)]
    texts = [program["quantum_program"]["passthrough_data"]["qgateway"] for program in programs]
    assert '"jobs/first"' in texts[0]
    assert texts[1] == texts[0].replace("jobs/first", "jobs/second")
    assert programs[0]["quantum_program"]["circuits"] == programs[1]["quantum_program"]["circuits"]


@pytest.mark.parametrize("program", ["executor", "sampler"])
async def test_each_result_names_its_own_job(new_bench: Callable[..., Bench], program: str) -> None:
    bench = new_bench(program=program)
    submission = await bench.submission(PROGRAM, OPTIONS, marker="first")
    for marker in ("first", "second"):
        job = replace(submission, marker=marker, job_name=f"jobs/{marker}")
        job_id = (await bench.provider.submit(job)).provider_job_id
        assert (await bench.ended(job_id)).status is JobStatus.DONE
        fetched = await bench.provider.fetch_result(job_id)
        assert isinstance(fetched, bytes)
        result = result_pb2.JobResult.FromString(fetched)
        assert (result.job, len(result.experiments)) == (f"jobs/{marker}", 1)


def test_parameters_in_which_the_name_cannot_be_exchanged_are_not_kept(tmp_path: Path) -> None:
    recent, circuits = RecentParameters(), b"some circuits"
    for number, text in enumerate((b"none", b"jobs/1 and jobs/1", b"jobs/1" + b" " * 300_000)):
        form = b"%d" % number
        recent.put(circuits, form, "jobs/1", text)
        assert recent.get(circuits, form, "jobs/2") is None
    file = PayloadFile(tmp_path / "large", 2**21)
    recent.put(file, b"", "jobs/1", b"jobs/1")
    assert recent.get(file, b"", "jobs/2") is None
    recent.put(circuits, b"", "jobs/1", b"<jobs/1>")
    assert recent.get(circuits, b"", "jobs/2") == b"<jobs/2>"


def test_old_parameters_are_forgotten() -> None:
    recent = RecentParameters()
    circuits = [b"circuits of job %d" % number for number in range(100)]
    for each in circuits:
        recent.put(each, b"", "jobs/1", b"jobs/1" + b" " * 200_000)
    known = [recent.get(each, b"", "jobs/2") is not None for each in circuits]
    assert known == sorted(known)
    assert 0 < sum(known) * 200_000 <= 8 * 1024 * 1024
