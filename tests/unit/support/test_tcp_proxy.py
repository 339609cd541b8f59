"""The proxy of the tests does to connections what it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until


@pytest.fixture
def echo() -> Iterator[str]:
    """Address of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    connection.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    accepting.join()


@pytest.fixture
def proxy(echo: str) -> Iterator[TcpProxy]:
    with TcpProxy(echo) as made:
        yield made


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def says(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1000)


def test_what_is_sent_passes_both_ways(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert says(connection, b"a") == b"a"
        assert (proxy.connections, proxy.accepted) == (1, 1)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000) == b""
    wait_until(lambda: proxy.connections == 0)


def test_a_cut_resets_what_is_open_and_nothing_else(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert says(connection, b"a") == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)
    with connect(proxy) as connection:
        assert says(connection, b"c") == b"c"


def test_a_stalled_connection_holds_everything_back_until_it_is_resumed(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert says(connection, b"a") == b"a"
        proxy.stall()
        connection.sendall(b"b")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1000)
        connection.settimeout(10)
        proxy.resume()
        assert connection.recv(1000) == b"b"


def test_a_stall_can_spare_new_connections(proxy: TcpProxy) -> None:
    with connect(proxy) as stalled, connect(proxy) as also_stalled:
        assert says(stalled, b"a") == says(also_stalled, b"a")
        proxy.stall(new=False)
        with connect(proxy) as fresh:
            assert says(fresh, b"b") == b"b"
        assert proxy.connections >= 2


def test_connections_are_refused_until_it_resumes(proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError), connect(proxy) as connection:
        says(connection, b"a")
    proxy.resume()
    with connect(proxy) as connection:
        assert says(connection, b"b") == b"b"
