"""Downloads go on where they were cut, and what is damaged is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from qgateway import _aio_transfer, _transfer
from qgateway._aio_connection import AioConnection
from qgateway._connection import Connection, GatewayCallError
from qgateway.v1 import job_service_pb2, server_service_pb2

from tests.support.refusals import refusal
from tests.unit.client_transport.fake_gateway import JOB, FakeGateway, blob

DATA = bytes(range(250)) * 42

Download = Callable[..., Awaitable[bytes]]


@pytest.fixture(params=["grpc", "grpc.aio"])
def download(request: pytest.FixtureRequest, connection: Connection, aio_connection: AioConnection) -> Download:
    """Both ways to download a result, as one."""

    async def with_threads(**options: Any) -> bytes:
        return _transfer.download_result(connection, JOB, **options)

    async def with_asyncio(**options: Any) -> bytes:
        return await _aio_transfer.download_result(aio_connection, JOB, **options)

    return with_threads if request.param == "grpc" else with_asyncio


async def test_all_bytes_arrive_and_progress_is_told(fake: FakeGateway, download: Download) -> None:
    fake.on("DownloadJobResult", blob(DATA, chunk=4000))
    steps: list[tuple[int, int]] = []
    assert await download(progress=lambda done, total: steps.append((done, total))) == DATA
    assert steps == [(4000, 10_500), (8000, 10_500), (10_500, 10_500)]


async def test_an_empty_blob_is_downloaded(fake: FakeGateway, download: Download) -> None:
    fake.on("DownloadJobResult", blob(b""))
    assert await download() == b""


async def test_a_download_that_is_cut_goes_on_at_its_offset(fake: FakeGateway, download: Download) -> None:
    fake.on(
        "DownloadJobResult", [blob(DATA, cut_after=3), blob(DATA, cut_after=0), blob(DATA, cut_after=5), blob(DATA)]
    )
    assert await download() == DATA
    assert [request.offset for request in fake.requests["DownloadJobResult"]] == [0, 3000, 3000, 8000]


async def test_a_cut_after_the_last_byte_does_no_harm(fake: FakeGateway, download: Download) -> None:
    def all_then_cut(request: Any, context: Any) -> Any:
        yield from blob(DATA)(request, context)
        refusal("UNAVAILABLE")(request, context)

    fake.on("DownloadJobResult", all_then_cut)
    assert await download() == DATA
    assert len(fake.requests["DownloadJobResult"]) == 1


async def test_a_wrong_checksum_is_data_loss(fake: FakeGateway, download: Download) -> None:
    fake.on("DownloadJobResult", blob(DATA, sha256=hashlib.sha256(b"other").digest()))
    with pytest.raises(GatewayCallError) as caught:
        await download()
    assert (caught.value.code, caught.value.reason) == ("DATA_LOSS", "DOWNLOAD_CORRUPT")
    assert len(fake.requests["DownloadJobResult"]) == 1


async def test_a_blob_that_changes_between_two_streams_is_data_loss(fake: FakeGateway, download: Download) -> None:
    fake.on("DownloadJobResult", [blob(DATA, cut_after=3), blob(DATA[::-1])])
    with pytest.raises(GatewayCallError) as caught:
        await download()
    assert caught.value.code == "DATA_LOSS"


@pytest.mark.parametrize("announced", [len(DATA) - 1, len(DATA) + 1])
async def test_a_wrong_size_is_data_loss(fake: FakeGateway, download: Download, announced: int) -> None:
    chunk = job_service_pb2.DownloadJobResultResponse(
        data=DATA, total_size_bytes=announced, sha256=hashlib.sha256(DATA).digest()
    )
    fake.on("DownloadJobResult", lambda _request, _context: iter([chunk]))
    with pytest.raises(GatewayCallError) as caught:
        await download()
    assert caught.value.code == "DATA_LOSS"


async def test_a_refusal_is_told_as_it_is(fake: FakeGateway, download: Download) -> None:
    fake.on("DownloadJobResult", refusal("FAILED_PRECONDITION", reason="RESULT_NOT_READY"))
    with pytest.raises(GatewayCallError) as caught:
        await download()
    assert (caught.value.reason, caught.value.job_id) == ("RESULT_NOT_READY", "abc")
    assert len(fake.requests["DownloadJobResult"]) == 1


async def test_a_gateway_that_stays_away_is_given_up(
    fake: FakeGateway, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._resume.LONGEST_DELAY", 0.01)
    fake.on("DownloadJobResult", refusal("UNAVAILABLE"))
    with pytest.raises(GatewayCallError) as caught:
        await download()
    assert caught.value.code == "UNAVAILABLE"


async def test_a_download_that_has_begun_waits_while_a_gateway_is_replaced(
    fake: FakeGateway, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._resume.LONGEST_DELAY", 0.01)
    away = [refusal("UNAVAILABLE")] * (3 * _transfer.MAX_FAILURES)
    fake.on("DownloadJobResult", [blob(DATA, cut_after=3), *away, blob(DATA)])
    assert await download() == DATA


async def test_a_download_that_has_begun_does_not_wait_for_ever(
    fake: FakeGateway, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._resume.LONGEST_DELAY", 0.01)
    monkeypatch.setattr(_transfer, "PATIENCE", 0.2)
    fake.on("DownloadJobResult", [blob(DATA, cut_after=3), refusal("UNAVAILABLE")])
    with pytest.raises(GatewayCallError) as caught:
        await download()
    assert caught.value.code == "UNAVAILABLE"


@pytest.mark.parametrize("sent_before", [0, 3])
async def test_a_download_waits_for_its_turn_among_others_of_its_caller(
    sent_before: int, fake: FakeGateway, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._resume.LONGEST_DELAY", 0.01)
    too_many = [refusal("RESOURCE_EXHAUSTED", reason="TOO_MANY_TRANSFERS")] * (3 * _transfer.MAX_FAILURES)
    begun = [blob(DATA, cut_after=sent_before)] if sent_before else []
    monkeypatch.setattr(_transfer, "PATIENCE", 5.0)
    fake.on("DownloadJobResult", [*begun, *too_many, blob(DATA)])
    assert await download() == DATA


async def test_an_upload_waits_for_its_turn_but_not_for_a_gateway_that_stays_away(
    fake: FakeGateway, connection: Connection, aio_connection: AioConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgateway._resume.LONGEST_DELAY", 0.01)
    info = server_service_pb2.GetServerInfoResponse(info=server_service_pb2.ServerInfo(chunk_size_bytes=4000))
    fake.on("GetServerInfo", lambda _request, _context: info)
    too_many = [refusal("RESOURCE_EXHAUSTED", reason="TOO_MANY_TRANSFERS")] * (3 * _transfer.MAX_FAILURES)

    def store(requests: list[Any], _context: Any) -> Any:
        data = b"".join(request.data for request in requests)
        return job_service_pb2.UploadProgramResponse(sha256=hashlib.sha256(data).digest(), size_bytes=len(data))

    fake.on("UploadProgram", [*too_many, store])
    assert _transfer.upload_program(connection, DATA) == hashlib.sha256(DATA).digest()
    fake.on("UploadProgram", [*too_many, store])
    assert await _aio_transfer.upload_program(aio_connection, DATA) == hashlib.sha256(DATA).digest()
    fake.on("UploadProgram", refusal("UNAVAILABLE"))
    with pytest.raises(GatewayCallError, match="It does not work"):
        _transfer.upload_program(connection, DATA)
    with pytest.raises(GatewayCallError, match="It does not work"):
        await _aio_transfer.upload_program(aio_connection, DATA)


def test_a_result_is_downloaded_into_a_file(fake: FakeGateway, connection: Connection) -> None:
    fake.on("DownloadJobResult", [blob(DATA, cut_after=2), blob(DATA)])
    file = io.BytesIO()
    _transfer.download_result_to(connection, JOB, file)
    assert file.getvalue() == DATA


def test_a_program_is_downloaded_in_the_same_way(fake: FakeGateway, connection: Connection) -> None:
    fake.on("DownloadJobProgram", [blob(DATA, cut_after=2), blob(DATA)])
    assert _transfer.download_program(connection, JOB) == DATA
    assert fake.requests["DownloadJobResult"] == []


async def test_a_program_is_uploaded_in_chunks_of_the_servers_size(
    fake: FakeGateway, connection: Connection, aio_connection: AioConnection
) -> None:
    info = server_service_pb2.GetServerInfoResponse(info=server_service_pb2.ServerInfo(chunk_size_bytes=4000))
    fake.on("GetServerInfo", lambda _request, _context: info)

    def store(requests: list[Any], _context: Any) -> Any:
        data = b"".join(request.data for request in requests)
        return job_service_pb2.UploadProgramResponse(sha256=hashlib.sha256(data).digest(), size_bytes=len(data))

    fake.on("UploadProgram", [refusal("UNAVAILABLE"), store])
    assert _transfer.upload_program(connection, DATA) == hashlib.sha256(DATA).digest()
    assert [len(request.data) for request in fake.requests["UploadProgram"][1]] == [0, 4000, 4000, 2500]
    assert await _aio_transfer.upload_program(aio_connection, DATA) == hashlib.sha256(DATA).digest()
