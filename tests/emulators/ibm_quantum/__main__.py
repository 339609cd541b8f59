"""Starts the emulator from the command line."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.emulators.ibm_quantum.accounts import default_accounts, first_key
from tests.emulators.ibm_quantum.app import application
from tests.emulators.ibm_quantum.devices import Devices
from tests.emulators.ibm_quantum.execution.worker import Worker
from tests.emulators.ibm_quantum.process import URL_LINE, client_environment, gateway_environment
from tests.emulators.ibm_quantum.settings import Settings
from tests.emulators.ibm_quantum.world import World


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the emulator until it is told to stop (SIGINT or SIGTERM)."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    follow_stdin = options.pop("until_stdin_closes")
    settings = Settings.model_validate({name: value for name, value in options.items() if value is not None})
    asyncio.run(_serve(host, port, settings, follow_stdin=follow_stdin))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulators.ibm_quantum", description="An emulator of the IBM Quantum service."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when the standard input is closed")
    for name, field in Settings.model_fields.items():
        option: dict[str, Any] = {"help": f"default: {field.default}"}
        if field.annotation is bool:
            option["action"] = argparse.BooleanOptionalAction
        parser.add_argument(f"--{name.replace('_', '-')}", default=None, **option)
    return parser


async def _serve(host: str, port: int, settings: Settings, *, follow_stdin: bool) -> None:
    worker = Worker()
    world = World(settings, worker, Devices(await worker.describe()))
    runner = web.AppRunner(application(world), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound_host, bound_port = runner.addresses[0][:2]
        _announce(f"http://{bound_host}:{bound_port}")
        await _told_to_stop(follow_stdin=follow_stdin)
    finally:
        await world.close()
        await runner.cleanup()
        worker.close()


def _announce(url: str) -> None:
    print(f"{URL_LINE}{url}")  # noqa: T201 - this line is for whoever started the process
    if sys.stdout.isatty():
        for account in default_accounts():
            print(f"\n# Qiskit as the account {account.name}:")  # noqa: T201
            for name, value in client_environment(url, account.instances[0].crn, first_key(account.name)).items():
                print(f"export {name}='{value}'")  # noqa: T201
        print("\n# The gateway with both accounts: run `gateway serve --dev` after these lines.")  # noqa: T201
        for name, value in gateway_environment(url).items():
            print(f"export {name}='{value}'")  # noqa: T201
    sys.stdout.flush()


async def _told_to_stop(*, follow_stdin: bool) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if follow_stdin:
        loop.add_reader(sys.stdin, stop.set)
    await stop.wait()


if __name__ == "__main__":
    main()
