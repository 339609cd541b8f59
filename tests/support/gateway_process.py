"""A real gateway in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from gateway.access.api_keys import hash_api_key
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

_START_SECONDS = 30


class GatewayProcess:
    """Runs `python -m gateway serve` on a free loopback port, with a store that outlives it.

    Args:
        folder: Where database and log are kept; the same folder again is the same store.
        settings: Further settings as environment variables, without the prefix `GATEWAY_`.
        api_key: The one key that the server accepts, whenever it is started. Default: each start makes a key of its own.
    """

    leaks: ClassVar[list[str]] = []
    """Files of servers that have ended in which the key of their caller was found; a fixture of all tests looks at it."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, api_key: str | None = None) -> None:
        self._folder = folder
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[str] | None = None
        self._own_key = api_key is None
        self.target = ""
        self.api_key = api_key or ""

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended, by itself or otherwise."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything that was logged, by all runs."""
        return self._log_path.read_text(errors="replace")

    @property
    def _log_path(self) -> Path:
        return self._folder / "gateway.log"

    def start(self, **more: str) -> GatewayProcess:
        """Start the server and wait until it answers. `more` are settings for this run only."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY_", "QGATEWAY_"))}
        environment["GATEWAY_STORE__PATH"] = str(self._folder / "store" / "qgateway.db")
        environment |= {f"GATEWAY_{name}": value for name, value in {**self._settings, **more}.items()}
        if not self._own_key:
            caller = {"name": "caller", "tenant": "dev", "role": "operator", "sha256": hash_api_key(self.api_key)}
            environment["GATEWAY_ACCESS__API_KEYS"] = json.dumps([caller])
        with self._log_path.open("a") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gateway", "serve", "--listen", "127.0.0.1:0"),
                    *(["--dev"] if self._own_key else []),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        if self._own_key:
            lines = self._first_lines(2)
            self.target = lines["QGATEWAY_TARGET"]
            self.api_key = lines["QGATEWAY_API_KEY"]
        else:
            self.target = f"127.0.0.1:{self._logged_port(begin)}"
        return self

    def stop(self) -> int:
        """Ask the server to stop (SIGTERM), and return its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server (SIGKILL): it can do nothing about it."""
        self._end(signal.SIGKILL)

    def wait_killed(self, within: float = 40.0) -> None:
        """Wait until the server was killed by what it did itself: see `gateway.domain.failpoints`."""
        assert self._process is not None
        code = self._process.wait(timeout=within)
        self._end(signal.SIGKILL)
        assert code == -signal.SIGKILL, f"the server ended with {code}:\n{self.log}"

    def environment(self) -> dict[str, str]:
        """Return what a client needs to know, as environment variables."""
        return {"QGATEWAY_TARGET": self.target, "QGATEWAY_API_KEY": self.api_key}

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        used = self.api_key
        process.send_signal(number)
        try:
            code = process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
            self._look_for(used)
        return code

    def _look_for(self, api_key: str) -> None:
        """Note where the key of the caller was left behind: in the log, or in the database."""
        if not api_key:
            return
        store = self._folder / "store"
        for path in (self._log_path, *(store.glob("*.db*") if store.is_dir() else ())):
            if path.is_file() and api_key.encode() in path.read_bytes():
                self.leaks.append(str(path))

    def _first_lines(self, count: int) -> dict[str, str]:
        assert self._process is not None
        assert self._process.stdout is not None
        stdout, found = self._process.stdout, {}

        def read() -> None:
            for _ in range(count):
                name, _, value = stdout.readline().strip().partition("=")
                found[name] = value

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        deadline = time.monotonic() + _START_SECONDS
        reader.join(deadline - time.monotonic())
        if reader.is_alive() or "QGATEWAY_API_KEY" not in found:
            self._end(signal.SIGKILL)
            raise AssertionError(f"the gateway did not start:\n{self.log}")
        return found

    def _logged_port(self, begin: int) -> int:
        """Wait until the server has logged where it listens, behind this byte of the log; return the port."""
        assert self._process is not None
        process = self._process
        with self._log_path.open("rb") as log:

            def port() -> int | None:
                log.seek(begin)
                lines = log.read().splitlines(keepends=True)
                for line in lines:
                    if b'"listening"' in line and line.endswith(b"\n"):
                        return int(json.loads(line)["port"])
                assert process.poll() is None, f"the gateway did not start:\n{b''.join(lines).decode()}"
                return None

            return wait_until(port, within=_START_SECONDS, every=0.005) or 0


def kill_and_restart(server: GatewayProcess, proxy: TcpProxy) -> None:
    """Kill a server behind a proxy, and start it anew: the proxy outlives its address."""
    server.kill()
    proxy.cut()
    proxy.upstream = server.start().target
