"""The result of a job."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from qgateway import (
    GatewayCircuitJob,
    GatewayProvider,
    IBMJobApiError,
    IBMJobFailureError,
    IBMJobInvalidStateError,
    IBMJobTimeoutError,
)
from qgateway.v1 import job_pb2, job_service_pb2, result_pb2
from qiskit.result import Result

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway, bell_result


@pytest.fixture
def done(scripted: ScriptedGateway) -> ScriptedGateway:
    """The gateway, its job DONE."""
    scripted.result = bell_result()
    scripted.move("DONE")
    return scripted


def test_a_result_is_read_once_and_stays_the_same_object(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    result = job.result()
    assert isinstance(result, Result)
    assert result.get_counts() == {"00": 2, "11": 2}
    assert job.result() is result
    assert job.result(timeout=0) is result
    assert done.count("DownloadJobResult") == 1


def test_a_small_result_is_read_with_one_call_and_a_large_one_is_downloaded(
    provider: GatewayProvider, done: ScriptedGateway
) -> None:
    for size, small, downloads in ((1000, 1, 0), (10**6, 1, 1)):
        done.job.result.size_bytes = size
        assert provider.retrieve_job(JOB_ID).result().get_counts() == {"00": 2, "11": 2}
        assert (done.count("GetJobResult"), done.count("DownloadJobResult")) == (small, downloads)


def test_refreshing_the_result_reads_it_again(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    first = job.result()
    first.results[0].data.counts = {}
    second = job.result(refresh=True)
    assert second is not first
    assert second.get_counts() == {"00": 2, "11": 2}
    assert job.result() is second
    assert done.count("DownloadJobResult") == 2


def test_any_handle_reads_the_result_any_number_of_times(
    job: GatewayCircuitJob, provider: GatewayProvider, done: ScriptedGateway
) -> None:
    counts = [job.result().get_counts(), job.result(refresh=True).get_counts()]
    counts += [provider.retrieve_job(JOB_ID).result().get_counts() for _ in range(2)]
    assert counts == [{"00": 2, "11": 2}] * 4


def test_refresh_does_not_read_the_result_again(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    job.refresh()
    assert done.count("DownloadJobResult") == 0
    result = job.result()
    job.refresh()
    assert job.result() is result
    assert done.count("DownloadJobResult") == 1


def test_a_result_is_waited_for(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.result = bell_result()
    with pytest.raises(IBMJobTimeoutError):
        job.result(timeout=0.05)
    threading.Timer(0.1, lambda: scripted.move("DONE")).start()
    assert job.result(timeout=20).success


def test_memory_is_listed_where_the_job_asked_for_it(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    assert "memory" not in job.result().data()
    done.move(options=job_pb2.RunOptions(shots=4, memory=True))
    job.refresh()
    assert job.result(refresh=True).get_memory() == ["00", "11", "00", "11"]


def test_a_cancelled_job_says_why(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    failure = job_pb2.JobFailure(reason="TIME_LIMIT_EXCEEDED", message="Ran too long.", provider_code="1305")
    scripted.move("CANCELLED", failure=failure)
    for _ in range(2):
        with pytest.raises(IBMJobInvalidStateError) as caught:
            job.result()
        error = caught.value
        assert error.message == f"Unable to retrieve result for job {JOB_ID}. Job was cancelled. Ran too long."
        assert (error.job_id, error.reason, error.code) == (JOB_ID, "TIME_LIMIT_EXCEEDED", "1305")
    assert scripted.count("DownloadJobResult") == 0


def test_a_failed_job_says_why(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    failure = job_pb2.JobFailure(reason="WORKER_CRASHED", message="The worker died.", provider_code="9999")
    scripted.move("ERROR", failure=failure)
    for _ in range(2):
        with pytest.raises(IBMJobFailureError, match=r"^Job failed: Error code 9999; The worker died\.$") as caught:
            job.result()
        assert (caught.value.job_id, caught.value.reason, caught.value.code) == (JOB_ID, "WORKER_CRASHED", "9999")
    assert "submit the job again" in caught.value.diagnostics()


def test_a_result_that_was_read_is_there_also_after_a_refresh(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    result = job.result()
    done.on("DownloadJobResult", refusal("NOT_FOUND", "The result is gone.", reason="RESULT_ABSENT"))
    job.refresh()
    assert job.result() is result
    with pytest.raises(IBMJobApiError, match="The result is gone"):
        job.result(refresh=True)
    assert job.result() is result


def test_an_unsuccessful_result_is_returned(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    done.result = bell_result(success=False)
    assert job.result().success is False


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xff\xff\xff",
        result_pb2.JobResult(
            experiments=[
                result_pb2.ExperimentResult(
                    shots=3,
                    registers=[result_pb2.RegisterResult(size=1, bits=result_pb2.PackedBits(data=b"\x01"))],
                )
            ]
        ).SerializeToString(),
    ],
)
def test_a_result_that_cannot_be_read_is_an_api_error(
    job: GatewayCircuitJob, done: ScriptedGateway, damaged: bytes
) -> None:
    done.result = damaged
    with pytest.raises(IBMJobApiError, match=f"^Unable to retrieve result for job {JOB_ID}: ") as caught:
        job.result()
    assert caught.value.__cause__ is not None


def test_a_damaged_download_is_an_api_error(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    response = job_service_pb2.DownloadJobResultResponse(data=b"abc", total_size_bytes=3, sha256=bytes(32))
    done.on("DownloadJobResult", lambda *_: iter([response]))
    with pytest.raises(IBMJobApiError, match="SHA-256") as caught:
        job.result()
    assert caught.value.code == "DATA_LOSS"


def test_the_result_of_a_provider_program_is_an_invalid_state(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    raw = result_pb2.RawResult(media_type="application/json")
    done.result = result_pb2.JobResult(raw=raw).SerializeToString()
    with pytest.raises(IBMJobInvalidStateError, match="provider program"):
        job.result()


def test_threads_that_ask_at_once_read_the_result_once(job: GatewayCircuitJob, done: ScriptedGateway) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> Any:
        together.wait(10)
        return job.result(timeout=20)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(ask, range(8)))
    assert all(result is results[0] for result in results)
    assert done.count("DownloadJobResult") == 1
