"""A real gateway in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from gateway.access.api_keys import hash_api_key
from tests.support.leaks import WATCH
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import wait_until

_START_SECONDS = 30
Found = TypeVar("Found")


class GatewayProcess:
    """Runs `python -m gateway serve` on a free loopback port, with a store that outlives it.

    It logs at level debug, unless told otherwise, and all that it is given, makes and leaves is watched: see `tests.support.leaks`.

    Args:
        folder: Where database and log are kept; the same folder again is the same store.
        settings: Further settings as environment variables, without the prefix `GATEWAY_`.
        api_key: The one key that the server accepts, whenever it is started. Default: each start makes a key of its own.
    """

    telemetry: ClassVar[Mapping[str, str]] = {}
    """Variables that lead traces and metrics of all servers to who searches them."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, api_key: str | None = None) -> None:
        self.folder = folder
        self.given: Mapping[str, str] = {}
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
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
    def written(self) -> tuple[Path, ...]:
        """Files that grow while the server runs: what it writes to standard error, and to standard output."""
        return self._log_path, self._output_path

    @property
    def database(self) -> Path:
        """The store."""
        return self.folder / "store" / "qgateway.db"

    @property
    def _log_path(self) -> Path:
        return self.folder / "gateway.log"

    @property
    def _output_path(self) -> Path:
        return self.folder / "gateway.out"

    def start(self, **more: str) -> GatewayProcess:
        """Start the server and wait until it answers. `more` are settings for this run only."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY_", "QGATEWAY_"))}
        environment |= {**self.telemetry, "GATEWAY_STORE__PATH": str(self.database), "GATEWAY_LOG__LEVEL": "debug"}
        environment |= {f"GATEWAY_{name}": value for name, value in {**self._settings, **more}.items()}
        if not self._own_key:
            caller = {"name": "caller", "tenant": "dev", "role": "operator", "sha256": hash_api_key(self.api_key)}
            environment["GATEWAY_ACCESS__API_KEYS"] = json.dumps([caller])
            WATCH.canaries.plant("the key of the caller", self.api_key)
        self.given = environment
        WATCH.add(self)
        with self._log_path.open("a") as log, self._output_path.open("a") as output:
            begin = output.tell() if self._own_key else log.tell()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gateway", "serve", "--listen", "127.0.0.1:0"),
                    *(["--dev"] if self._own_key else []),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )
        if self._own_key:
            self.target, self.api_key = self._told_target(begin)
            WATCH.canaries.plant("the key of the caller", self.api_key, homes=[str(self._output_path)])
        else:
            self.target = f"127.0.0.1:{self._logged_port(begin)}"
        WATCH.plant_store_keys(self.database)
        return self

    def stop(self, within: float = 40.0) -> int:
        """Ask the server to stop (SIGTERM), and return its exit code; kill it and fail if it does not end in time."""
        return self._end(signal.SIGTERM, within)

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

    def _end(self, number: signal.Signals, within: float = 40.0) -> int:
        if self.is_running:
            WATCH.look_at_process(self)
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def _told_target(self, begin: int) -> tuple[str, str]:
        """Wait until the server has printed where it listens, and the key that it made; return both."""

        def told(lines: list[bytes]) -> tuple[str, str] | None:
            values = dict(line.decode().strip().split("=", 1) for line in lines if b"=" in line)
            key = values.get("QGATEWAY_API_KEY")
            return (values["QGATEWAY_TARGET"], key) if key else None

        return self._awaited(self._output_path, begin, told)

    def _logged_port(self, begin: int) -> int:
        """Wait until the server has logged where it listens, behind this byte of the log; return the port."""

        def port(lines: list[bytes]) -> int | None:
            return next((int(json.loads(line)["port"]) for line in lines if b'"listening"' in line), None)

        return self._awaited(self._log_path, begin, port)

    def _awaited(self, path: Path, begin: int, find: Callable[[list[bytes]], Found | None]) -> Found:
        """Wait until something is found in the whole lines of a file, behind this byte of it."""
        assert self._process is not None
        process = self._process
        with path.open("rb") as file:

            def found() -> Found | None:
                file.seek(begin)
                it = find([line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")])
                assert it or process.poll() is None, f"the gateway did not start:\n{self.log}"
                return it

            try:
                return cast("Found", wait_until(found, within=_START_SECONDS, every=0.005))
            except AssertionError:
                self._end(signal.SIGKILL)
                raise


def kill_and_restart(server: GatewayProcess, proxy: TcpProxy) -> None:
    """Kill a server behind a proxy, and start it anew: the proxy outlives its address."""
    server.kill()
    proxy.cut()
    proxy.upstream = server.start().target
