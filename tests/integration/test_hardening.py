"""What a hostile peer can take of the server: connections, streams, metadata, memory. Nothing here has valid credentials to abuse."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

import grpc
import psutil
import pytest
from qgateway.v1 import server_service_pb2, server_service_pb2_grpc

from tests.fuzzing.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    Encoder,
    call_headers,
    frame,
    grpc_message,
    settings,
)
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import until

NewGateway = Callable[..., GatewayProcess]


async def connect(gateway: GatewayProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = gateway.target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def closed(reader: asyncio.StreamReader, within: float = 20) -> None:
    """Wait until the server closes a connection."""
    async with asyncio.timeout(within):
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass


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
    reader, writer = await connect(gateway)
    writer.write(said)
    await closed(reader)
    writer.close()


async def test_a_peer_without_calls_is_dropped_after_a_while(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_CONNECTION_IDLE": "1"}).start()
    reader, writer = await connect(gateway)
    writer.write(PREFACE + settings())
    await closed(reader)
    writer.close()


async def test_a_peer_that_answers_no_ping_is_dropped_with_its_streams(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__KEEPALIVE_INTERVAL": "1", "SERVER__KEEPALIVE_TIMEOUT": "1"}).start()
    reader, writer = await connect(gateway)
    block = Encoder().encode(call_headers("/qgateway.v1.JobService/GetJob"))
    writer.write(PREFACE + settings() + frame(HEADERS, END_HEADERS, 1, block))
    await closed(reader)
    writer.close()


async def test_connections_beyond_the_limit_are_refused_and_places_become_free_again(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_CONNECTIONS": "3"}).start()
    held = []
    for _ in range(3):
        reader, writer = await connect(gateway)
        writer.write(PREFACE + settings())
        assert await reader.read(9)
        held.append(writer)
    reader, extra = await connect(gateway)
    extra.write(PREFACE + settings())
    await closed(reader)
    extra.close()
    for writer in held:
        writer.close()
    await until(lambda: server_info(gateway) is grpc.StatusCode.OK)


async def test_streams_of_one_connection_are_limited(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_STREAMS_PER_CONNECTION": "5"}).start()
    reader, writer = await connect(gateway)
    writer.write(PREFACE + settings())
    block = Encoder().encode(call_headers("/qgateway.v1.JobService/GetJob"), huffman=False)
    for stream in range(1, 101, 2):
        writer.write(frame(HEADERS, END_HEADERS, stream, block))
    heard = b""
    async with asyncio.timeout(20):
        while b"\x00\x00\x00\x07" not in heard:  # REFUSED_STREAM
            piece = await reader.read(65_536)
            assert piece, "the connection was closed"
            heard += piece
    writer.close()


def test_metadata_beyond_the_limit_is_refused(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_METADATA_BYTES": "4096"}).start()
    assert server_info(gateway, ("x", "y" * 3_000)) is grpc.StatusCode.OK
    assert server_info(gateway, ("x", "y" * 5_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server_info(gateway) is grpc.StatusCode.OK


async def test_a_compressed_message_is_not_unpacked_beyond_the_limit(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_REQUEST_BYTES": str(2**20)}).start()
    assert server_info(gateway) is grpc.StatusCode.OK
    process, bomb = psutil.Process(gateway.pid), gzip.compress(bytes(512 * 2**20))
    assert len(bomb) < 2**20
    before = peak = process.memory_info().rss
    headers = call_headers(
        "/qgateway.v1.JobService/GetJob",
        (b"authorization", f"Bearer {gateway.api_key}".encode()),
        (b"grpc-encoding", b"gzip"),
    )
    reader, writer = await connect(gateway)
    writer.write(PREFACE + settings((4, 2**30)) + frame(HEADERS, END_HEADERS, 1, Encoder().encode(headers)))
    data = grpc_message(bomb, compressed=1)
    heard = b""
    async with asyncio.timeout(20):
        for at in range(0, len(data), 16_384):
            end = at + 16_384 >= len(data)
            writer.write(frame(DATA, END_STREAM if end else 0, 1, data[at : at + 16_384]))
            await writer.drain()
        while b"grpc-status" not in heard:
            heard += await reader.read(65_536)
            peak = max(peak, process.memory_info().rss)
    writer.close()
    assert b"grpc-status\x018" in heard, "RESOURCE_EXHAUSTED was expected"
    assert peak - before < 100 * 2**20


def test_a_message_beyond_the_limit_is_refused_before_it_is_read(new_gateway: NewGateway) -> None:
    gateway = new_gateway({"SERVER__MAX_REQUEST_BYTES": str(2**16), "SERVER__CHUNK_BYTES": str(2**14)}).start()
    with grpc.insecure_channel(gateway.target) as channel:
        call = channel.unary_unary("/qgateway.v1.JobService/SubmitJob", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(2**17), metadata=(("authorization", "Bearer x"),), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
