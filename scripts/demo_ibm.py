"""Start an emulator of IBM Quantum, a gateway with two accounts there, and a client of the gateway: `make demo-ibm`.

While the client (`examples/ibm_quantum.py`) makes its tour, this program plays the others: the machines that run the jobs, and the
operator who changes the key of an account while jobs are in flight. At the end it compares what the client has seen with what the
emulator computed, and looks for keys where none must be. The exit code is 0 only if all is well.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ibm_quantum_schemas.common import CompressedTensorModel
from qiskit_ibm_runtime import RuntimeDecoder
from rich.console import Console
from rich.markup import escape

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.processes import family, places
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "demo-ibm"
"""Where logs and keys are kept. What was there is deleted."""
CLIENT_TIMEOUT = 120.0
STEP_SECONDS = 0.4
"""How long a job is Queued, and how long it is Running."""

_CLIENT = """
import logging, os, runpy, sys
logging.basicConfig(filename=sys.argv[1], level=logging.DEBUG)
sys.path.insert(0, os.path.dirname(sys.argv[2]))
runpy.run_path(sys.argv[2])["main"](sys.argv[3])
sys.stdout.flush()
os.write(int(sys.argv[4]), b".")
sys.stdin.read()
"""
"""Runs the example, says that it is through, and stays until its input is closed, so that it can be looked into."""

console = Console(highlight=False)


class Client:
    """The client's process. What it prints is shown and kept.

    Args:
        environment: By which it finds the gateway.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.record, self.log, self.errors = (FOLDER / name for name in ("counts.json", "client.log", "client.err"))
        self.output = ""
        through, tell = os.pipe()
        self._through = through
        if console.is_terminal:
            environment = {**environment, "FORCE_COLOR": "1", "COLUMNS": str(console.width)}
        with self.errors.open("w") as errors:
            example = ROOT / "examples" / "ibm_quantum.py"
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CLIENT, str(self.log), str(example), str(self.record), str(tell)],
                env={**os.environ, **environment, "GRPC_VERBOSITY": "DEBUG", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=(tell,),
                text=True,
            )
        os.close(tell)
        self.pid = self._process.pid
        self._showing = threading.Thread(target=self._show)
        self._showing.start()

    def is_through(self, timeout: float) -> bool:
        """Wait for its end, so many seconds at most.

        Raises:
            SystemExit: It failed.
        """
        if not select.select([self._through], [], [], timeout)[0]:
            return False
        if os.read(self._through, 1) != b".":
            self._process.wait(STEP_SECONDS * 10)
            sys.exit(f"The client failed:\n{self.errors.read_text()[-4000:]}")
        return True

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None  # noqa: S101 -- for the type checker
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._showing.join()
        os.close(self._through)

    def told(self) -> str:
        """Return all that it printed and logged."""
        return self.output + self.log.read_text() + self.errors.read_text()

    def _show(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 -- for the type checker
        with self._process.stdout as stdout:
            for line in stdout:
                self.output += line
                sys.stdout.write(line)
                sys.stdout.flush()


class Machines:
    """Run the jobs of the emulator, one step at a time.

    Args:
        control: Of the emulator.
    """

    def __init__(self, control: EmulatorControl) -> None:
        self._control = control
        self.held = {"in flight", "unwanted"}
        """Tags of jobs that stay in the queue."""
        self._next_step = 0.0

    def step(self) -> None:
        """Let every job that is not held go on, once its time has come."""
        if time.monotonic() < self._next_step:
            return
        self._next_step = time.monotonic() + STEP_SECONDS
        for job in self._control.jobs():
            if self.held.isdisjoint(job["tags"]) and job["state"] in ("Queued", "Running"):
                self._control.advance(job["id"], "Running" if job["state"] == "Queued" else "Completed")

    def waiting(self, tag: str) -> int:
        """Return how many jobs with a tag are in the queue."""
        return sum(tag in job["tags"] and job["state"] == "Queued" for job in self._control.jobs())


class Checks:
    """Counts and prints what is as it should be, and what is not."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, what: str, *, right: bool, detail: str = "") -> None:
        """Note whether something is right."""
        self.failed += not right
        mark = "[green]✓[/]" if right else "[red]✗[/]"
        console.print(f"   {mark} {escape(what)}" + (f" [dim]{escape(detail)}[/]" if detail else ""))


def rotate(control: EmulatorControl, key_file: Path) -> str:
    """Change the key of the first account as an operator would, and return the new one."""
    old, new = key_file.read_text(), f"rotated-{secrets.token_urlsafe(32)}"
    operator("gives account alpha a new key and writes it to the key file; the gateway is not restarted")
    control.change_keys("alpha", add=[new])
    exchanges = control.counts()["POST /identity/token"]
    key_file.write_text(new)
    wait_until(lambda: control.counts()["POST /identity/token"] > exchanges, every=0.1)
    operator("takes the old key away, and all tokens that were got with it")
    control.change_keys("alpha", remove=[old])
    control.expire_tokens()
    return new


def operator(does: str) -> None:
    """Print what the operator does."""
    console.print(f"   [yellow]The operator {does}.[/]")


@contextmanager
def running_gateway(emulator: EmulatorProcess, key_files: dict[str, Path]) -> Iterator[GatewayProcess]:
    """Run a gateway with both accounts; circuits go to each through another program of the provider."""
    accounts = {
        name: ibm_account(emulator, name, key_file=str(key_files[name]), program=program)
        for name, program in (("alpha", "executor"), ("beta", "sampler"))
    }
    gateway = GatewayProcess(FOLDER, {"ACCOUNTS": json.dumps(accounts), "LOG__LEVEL": "debug"}).start()
    try:
        yield gateway
    finally:
        if code := gateway.stop():
            sys.exit(f"The gateway ended with exit code {code}. Its log is {FOLDER / 'gateway.log'}.")


def computed(results: str) -> dict[str, int]:
    """Return the counts of a job's one circuit, read from what the emulator computed and not by the gateway's code."""
    document = json.loads(results)
    if "schema_version" not in document:
        (pub,) = json.loads(results, cls=RuntimeDecoder)
        (register,) = pub.data.values()
        return dict(register.get_counts())
    (tensor,) = document["data"][0]["results"].values()
    shots = CompressedTensorModel.model_validate(tensor).to_numpy()
    return dict(Counter("".join("1" if bit else "0" for bit in reversed(shot)) for shot in shots))


def check_jobs(check: Checks, control: EmulatorControl, seen: dict[str, dict[str, int]]) -> None:
    """Compare the jobs at the provider with what the client has seen of them."""
    upstream = {job["id"]: control.job(job["id"]) for job in control.jobs()}
    same = sum(computed(upstream[job_id]["results"]) == counts for job_id, counts in seen.items())
    shots = sum(sum(counts.values()) for counts in seen.values())
    check(
        "the counts are those that the machines computed",
        right=same == len(seen) > 0,
        detail=f"{same} of {len(seen)} jobs, {shots} shots",
    )
    reads = {upstream[job_id]["results_reads"] for job_id in seen}
    check("each result was read from the provider once", right=reads == {1})
    submits = control.counts()["POST /jobs"]
    check("each job was sent to the provider once", right=len(upstream) == submits, detail=f"{submits} jobs")
    (session,) = control.sessions()
    inside = [job for job in upstream.values() if job["session_id"] == session["id"]]
    check(
        "the session held its jobs there, and is closed",
        right=len(inside) == 2 and session["closed_at"] is not None,  # noqa: PLR2004 - as many as the client sends
        detail=f"{len(inside)} jobs",
    )
    cancelled = [job for job in upstream.values() if "unwanted" in job["tags"]]
    check("the unwanted job is cancelled there, too", right=[job["state"] for job in cancelled] == ["Cancelled"])
    kept = [job for job in upstream.values() if "keep" in job["tags"]]
    marked = all(any(tag.startswith("qgw-") for tag in job["tags"]) for job in upstream.values())
    check("the new tags are there, too, and the gateway's own were kept", right=len(kept) == 1 and marked)


def check_secrets(check: Checks, client: Client, gateway: GatewayProcess, canaries: list[str]) -> None:
    """Look for keys and tokens of the provider where none must be."""
    try:
        found = [place for pid in family(client.pid) for place in places(pid, canaries)]
        control = places(gateway.pid, canaries)
    except OSError as error:
        console.print(f"   [yellow]- this system does not let processes be looked into: {error.strerror}[/]")
    else:
        check(
            "no key and no token is in the client's environment, command line or memory",
            right=not found,
            detail=", ".join(found) or f"{len(canaries)} looked for",
        )
        check("the same search finds them in the gateway's memory, and only there", right=control == ["memory"])
    told = {"client's output and logs": client.told(), "gateway's log, at level debug": gateway.log}
    for place, text in told.items():
        right = not any(secret in text for secret in canaries)
        check(f"no key and no token is in the {place}", right=right, detail=f"{len(text)} characters")


def main() -> None:
    """Run the demonstration."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    key_files = {name: FOLDER / f"{name}.key" for name in ("alpha", "beta")}
    check = Checks()
    with EmulatorProcess({"manual": True}) as emulator:
        for name, path in key_files.items():
            path.write_text(emulator.api_key(name))
        with running_gateway(emulator, key_files) as gateway:
            console.print(f"An emulator of IBM Quantum runs at {emulator.url}, and a gateway at {gateway.target}.")
            console.print(f"Its log, the client's and the keys are in {os.path.relpath(FOLDER)}.\n")
            client = Client(gateway.environment())
            try:
                keys = [path.read_text() for path in key_files.values()]
                keys.append(direct(client, Machines(emulator.control), emulator.control, key_files["alpha"]))
                console.rule("Is all as it should be?")
                check_jobs(check, emulator.control, json.loads(client.record.read_text()))
                check_secrets(check, client, gateway, keys + emulator.control.tokens())
            finally:
                client.close()
    sys.exit(1 if check.failed else 0)


def direct(client: Client, machines: Machines, control: EmulatorControl, key_file: Path) -> str:
    """Play machines and operator until the client is through; return the new key."""
    new_key, deadline = "", time.monotonic() + CLIENT_TIMEOUT
    while not client.is_through(timeout=STEP_SECONDS / 4):
        if time.monotonic() > deadline:
            sys.exit(f"The client is not through after {CLIENT_TIMEOUT:g} s.")
        machines.step()
        if not new_key and machines.waiting("in flight") == 4:  # noqa: PLR2004 - as many as the client sends
            new_key = rotate(control, key_file)
            machines.held.discard("in flight")
    return new_key


if __name__ == "__main__":
    main()
