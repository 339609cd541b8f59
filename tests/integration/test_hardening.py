"""What a hostile peer can take of the server: connections, streams, metadata, memory; and that none can end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qgateway.v1 import server_service_pb2, server_service_pb2_grpc

from tests.fuzzing.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    Encoder,
    call_headers,
    frame,
    grpc_message,
    settings,
)
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import until, wait_until

NewGateway = Callable[..., GatewayProcess]


@asynccontextmanager
async def connected(gateway: GatewayProcess) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = gateway.target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def closed(reader: asyncio.StreamReader, within: float = 20) -> None:
    """Wait until the server closes a connection."""
    async with asyncio.timeout(within):
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass


def peak_memory(gateway: GatewayProcess) -> int:
    """Return the most memory that a server ever had, in bytes."""
    lines = Path(f"/proc/{gateway.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def block(*more: tuple[bytes, bytes], path: bytes = b"/qgateway.v1.JobService/GetJob") -> bytes:
    """Return the headers of a call as they are sent."""
    return Encoder().encode(call_headers(path, *more), huffman=False)


def server_info(gateway: GatewayProcess, *metadata: tuple[str, str], **options: object) -> grpc.StatusCode:
    """Ask a server what it is, over a connection of its own, and return the status."""
    with grpc.insecure_channel(gateway.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = server_service_pb2_grpc.ServerServiceStub(channel)
        all_metadata = (("authorization", f"Bearer {gateway.api_key}"), *metadata)
        try:
            stub.GetServerInfo(server_service_pb2.GetServerInfoRequest(), metadata=all_metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("said", [b"", PREFACE[:9], PREFACE], ids=["nothing", "half a word", "no settings"])
async def test_a_peer_that_does_not_finish_its_first_words_is_dropped(new_gateway: NewGateway, said: bytes) -> None:
    gateway = new_gateway({"SERVER__HANDSHAKE_TIMEOUT": "1"}).start()
    async with connected(gateway) as (reader, writer):
        writer.write(said)
        await closed(reader)


async def test_a_peer_without_calls_is_dropped_after_a_while(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_CONNECTION_IDLE": "1"}).start()
    async with connected(gateway) as (reader, writer):
        writer.write(PREFACE + settings())
        await closed(reader)


async def test_a_peer_that_answers_no_ping_is_dropped_with_its_streams(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__KEEPALIVE_INTERVAL": "1", "SERVER__KEEPALIVE_TIMEOUT": "1"}).start()
    async with connected(gateway) as (reader, writer):
        writer.write(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, block()))
        await closed(reader)


async def test_connections_beyond_the_limit_are_refused_and_places_become_free_again(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_CONNECTIONS": "3"}).start()
    async with AsyncExitStack() as held:
        for _ in range(3):
            reader, writer = await held.enter_async_context(connected(gateway))
            writer.write(PREFACE + settings())
            assert await reader.read(9)
        async with connected(gateway) as (reader, writer):
            writer.write(PREFACE + settings())
            await closed(reader)
    await until(lambda: server_info(gateway) is grpc.StatusCode.OK)


async def test_streams_of_one_connection_are_limited(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_STREAMS_PER_CONNECTION": "5"}).start()
    async with connected(gateway) as (reader, writer), asyncio.timeout(20):
        writer.write(PREFACE + settings())
        assert await reader.read(9)
        writer.write(frame(SETTINGS, 1, 0))  # the limit holds from when it was acknowledged
        writer.write(b"".join(frame(HEADERS, END_HEADERS, stream, block()) for stream in range(1, 101, 2)))
        heard = b""
        while b"\x00\x00\x00\x07" not in heard:  # REFUSED_STREAM
            piece = await reader.read(65_536)
            assert piece, "the connection was closed"
            heard += piece


def test_metadata_beyond_the_limit_is_refused(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_METADATA_BYTES": "4096"}).start()
    assert server_info(gateway, ("x", "y" * 3_000)) is grpc.StatusCode.OK
    assert server_info(gateway, ("x", "y" * 5_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server_info(gateway) is grpc.StatusCode.OK


def test_a_compressed_message_is_not_unpacked_beyond_the_limit(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_REQUEST_BYTES": str(2**20)}).start()
    assert server_info(gateway) is grpc.StatusCode.OK
    before = peak_memory(gateway)
    with grpc.insecure_channel(gateway.target) as channel:
        call = channel.unary_unary("/qgateway.v1.JobService/GetJob", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(256 * 2**20), compression=grpc.Compression.Gzip, timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "ecompressed" in (caught.value.details() or "")
    assert peak_memory(gateway) - before < 64 * 2**20


def test_a_message_beyond_the_limit_is_refused_before_it_is_read(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_REQUEST_BYTES": str(2**16), "SERVER__CHUNK_BYTES": str(2**14)}).start()
    with grpc.insecure_channel(gateway.target) as channel:
        call = channel.unary_unary("/qgateway.v1.JobService/SubmitJob", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(2**17), metadata=(("authorization", "Bearer x"),), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("path", [b"/\x80", b"\xff" * 100, b"", b"/qgateway.v1.JobService/NoSuchMethod"])
async def test_no_path_ends_the_server_whatever_its_bytes(gateway: GatewayProcess, path: bytes) -> None:
    async with connected(gateway) as (reader, writer), asyncio.timeout(20):
        writer.write(PREFACE + settings() + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(path=path)))
        heard = b""
        while b"grpc-status" not in heard:
            heard += await reader.read(65_536)
    assert b"grpc-status\x0212" in heard, "UNIMPLEMENTED was expected"
    assert server_info(gateway) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_a_broken_request_to_an_open_service_is_the_callers_mistake(new_gateway: NewGateway, method: str) -> None:
    gateway = new_gateway().start()
    with grpc.insecure_channel(gateway.target) as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream(method, None, None)(iter([b"\n\xff"]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert '"level": "error"' not in gateway.log


def test_a_method_that_an_open_service_leaves_out_is_no_error_of_the_server(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    with grpc.insecure_channel(gateway.target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/List", None, None)(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert '"level": "error"' not in gateway.log


async def test_metadata_that_is_no_text_is_refused_and_not_logged(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    key = f"{gateway.api_key}\xff".encode("latin-1")
    async with connected(gateway) as (reader, writer), asyncio.timeout(20):
        headers = block((b"authorization", b"Bearer " + key), (b"x-odd", b"\xfe\xff"))
        writer.write(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, headers))
        writer.write(frame(DATA, END_STREAM, 1, grpc_message(b"")))
        heard = b""
        while b"grpc-status" not in heard:
            heard += await reader.read(65_536)
    assert server_info(gateway) is grpc.StatusCode.OK
    assert gateway.api_key not in gateway.log
    assert '"level": "error"' not in gateway.log


def test_streams_without_credentials_are_few_on_one_connection(new_gateway: NewGateway) -> None:
    gateway = new_gateway().start()
    with grpc.insecure_channel(gateway.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(17)]
        codes = []
        for watch in watches:
            try:
                assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                codes.append(error.code())
        assert sorted(codes, key=str) == [grpc.StatusCode.OK] * 16 + [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
        open_ones = [watch for watch, code in zip(watches, codes, strict=True) if code is grpc.StatusCode.OK]
        open_ones[0].cancel()
        # Its place is free again once the server has heard of it.
        wait_until(lambda: watches_health(stub))
        for watch in open_ones:
            watch.cancel()
    assert '"level": "error"' not in gateway.log


def watches_health(stub: health_pb2_grpc.HealthStub) -> bool:
    """Return whether the health can be watched."""
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    try:
        return bool(next(watch).status)
    except grpc.RpcError:
        return False
    finally:
        watch.cancel()
