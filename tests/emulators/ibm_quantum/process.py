"""The emulator as a process of its own, for tests and demonstrations."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.emulators.ibm_quantum.accounts import default_accounts, first_key, token_mark
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.leaks import WATCH

URL_LINE = "IBM_QUANTUM_EMULATOR_URL="
"""How the line begins that the emulator writes when it is ready."""

_ROOT = Path(__file__).parents[3]
_START_SECONDS = 60
_STOP_SECONDS = 15


def client_environment(url: str, crn: str, api_key: str) -> dict[str, str]:
    """Return the environment in which `QiskitRuntimeService()` talks to the emulator.

    Args:
        url: Address of the emulator.
        crn: The instance to use.
        api_key: A key of the instance's account.
    """
    return {
        "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
        "QISKIT_IBM_TOKEN": api_key,
        "QISKIT_IBM_INSTANCE": crn,
        "QISKIT_IBM_URL": f"{url}/experimental/api/v1",
        "IAM_URL": url,
        "QISKIT_FUNCTIONS_EXPERIMENTAL": "1",
    }


def gateway_environment(url: str) -> dict[str, str]:
    """Return the environment in which `gateway serve` has an account at each of the emulator's accounts, of the same name.

    Args:
        url: Address of the emulator.
    """
    keys = {f"IBM_KEY_{account.name.upper()}": first_key(account.name) for account in default_accounts()}
    accounts = {
        account.name: {
            "provider": "ibm",
            "crn": account.instances[0].crn,
            "key_env": key,
            "api_url": f"{url}/api/v1",
            "iam_url": url,
        }
        for account, key in zip(default_accounts(), keys, strict=True)
    }
    return {**keys, "GATEWAY_ACCOUNTS": json.dumps(accounts)}


class EmulatorProcess:
    """Runs `python -m tests.emulators.ibm_quantum`; ends with the process that started it, however that ends.

    Args:
        settings: Settings to start with, by the names of `settings.Settings`.
        port: Where to listen; 0 takes any free port.
    """

    def __init__(self, settings: dict[str, float | bool] | None = None, port: int = 0) -> None:
        self._settings = settings or {}
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self._control: EmulatorControl | None = None
        self.url = ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def control(self) -> EmulatorControl:
        """Steers it."""
        if self._control is None:
            self._control = EmulatorControl(self.url)
        return self._control

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", __package__, "--until-stdin-closes", "--port", str(self._port)]
        for name, value in self._settings.items():
            option = name.replace("_", "-")
            if isinstance(value, bool):
                command.append(f"--{option}" if value else f"--no-{option}")
            else:
                command += [f"--{option}", str(value)]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._first_line().removeprefix(URL_LINE)
        WATCH.canaries.plant("a token of the provider", token_mark())
        for account in default_accounts():
            WATCH.canaries.plant("a key of the provider", self.api_key(account.name))
        return self

    def stop(self) -> None:
        """Ask it to stop, and wait until it did."""
        self._end(self._process.terminate if self._process else None)

    def kill(self) -> None:
        """Kill it: it can do nothing about it."""
        self._end(self._process.kill if self._process else None)

    def close_input(self) -> int:
        """Do to it what the end of this process would do, wait until it ended by itself, and return its exit code."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(timeout=_STOP_SECONDS)

    def environment(self, account: str = "alpha", instance: int = 0) -> dict[str, str]:
        """Return the environment in which `QiskitRuntimeService()` uses an instance of an account."""
        return client_environment(self.url, self.crn(account, instance), self.api_key(account))

    def crn(self, account: str = "alpha", instance: int = 0) -> str:
        """Return the CRN of an instance that an account has at the start."""
        return {item.name: item for item in default_accounts()}[account].instances[instance].crn

    def api_key(self, account: str = "alpha") -> str:
        """Return the key that an account has at the start."""
        return first_key(account)

    def _end(self, tell: object) -> None:
        process, self._process = self._process, None
        control, self._control = self._control, None
        if control is not None:
            control.close()
        if process is None or not callable(tell):
            return
        tell()
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        stdout, lines = self._process.stdout, list[str]()
        reader = threading.Thread(target=lambda: lines.append(stdout.readline().strip()), daemon=True)
        reader.start()
        reader.join(_START_SECONDS)
        if not lines or not lines[0].startswith(URL_LINE):
            self.kill()
            raise AssertionError("the emulator did not start")
        return lines[0]
