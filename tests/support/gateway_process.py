"""A real gateway in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

_START_SECONDS = 30


class GatewayProcess:
    """Runs `python -m gateway serve` on a free loopback port, with a store that outlives it.

    Args:
        folder: Where database and log are kept; the same folder again is the same store.
        settings: Further settings as environment variables, without the prefix `GATEWAY_`.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[str] | None = None
        self.target = ""
        self.api_key = ""

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that was logged, by all runs."""
        return self._log_path.read_text()

    @property
    def _log_path(self) -> Path:
        return self._folder / "gateway.log"

    def start(self, **more: str) -> GatewayProcess:
        """Start the server and wait until it answers. `more` are settings for this run only."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("GATEWAY_", "QGATEWAY_"))}
        environment["GATEWAY_STORE__PATH"] = str(self._folder / "store" / "qgateway.db")
        environment |= {f"GATEWAY_{name}": value for name, value in {**self._settings, **more}.items()}
        with self._log_path.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--dev", "--listen", "127.0.0.1:0"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        lines = self._first_lines(2)
        self.target = lines["QGATEWAY_TARGET"]
        self.api_key = lines["QGATEWAY_API_KEY"]
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
        return code

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
