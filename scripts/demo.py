"""Start a gateway with the local provider, run the quickstart against it, and stop it: `make demo`.

The exit code is 0 only if the quickstart succeeded and the gateway stopped in good order.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "demo.log"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0


@contextmanager
def running_gateway() -> Iterator[dict[str, str]]:
    """Run `gateway serve --dev` on a free loopback port, and stop it with SIGTERM.

    Yields:
        The environment variables by which a client finds it.

    Raises:
        SystemExit: It did not start, or did not stop in good order.
    """
    command = [sys.executable, "-m", "gateway", "serve", "--dev", "--listen", "127.0.0.1:0"]
    LOG.parent.mkdir(exist_ok=True)
    with (
        LOG.open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as gateway,
    ):
        try:
            yield _connection(gateway)
        finally:
            gateway.terminate()
            try:
                gateway.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                gateway.kill()
    if gateway.returncode:
        sys.exit(f"The gateway ended with exit code {gateway.returncode}. Its log is {LOG}.")


def _connection(gateway: subprocess.Popen[str]) -> dict[str, str]:
    """Wait until the gateway has said where it is and says that it serves."""
    assert gateway.stdout is not None  # noqa: S101 -- for the type checker
    too_late = threading.Timer(START_TIMEOUT, gateway.kill)
    too_late.start()
    try:
        # It prints these lines once it answers calls. A gateway that ends, or is killed, prints nothing more.
        lines = [gateway.stdout.readline().strip().partition("=") for _ in range(2)]
    finally:
        too_late.cancel()
    connection = {name: value for name, _, value in lines}
    if connection.keys() != {"QGATEWAY_TARGET", "QGATEWAY_API_KEY"}:
        sys.exit(f"The gateway did not start. Its log is {LOG}:\n{LOG.read_text()[-2000:]}")
    health = [sys.executable, "-m", "gateway", "health", "--target", connection["QGATEWAY_TARGET"]]
    subprocess.run(health, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return connection


def main() -> None:
    """Run the quickstart against a gateway of its own."""
    with running_gateway() as connection:
        print(f"A gateway runs at {connection['QGATEWAY_TARGET']}; its log is {LOG.relative_to(ROOT)}.\n", flush=True)
        quickstart = [sys.executable, str(ROOT / "examples" / "quickstart.py")]
        failed = subprocess.run(quickstart, env=os.environ | connection, check=False).returncode
    sys.exit(failed)


if __name__ == "__main__":
    main()
