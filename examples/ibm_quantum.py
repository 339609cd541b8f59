"""A tour of the gateway over accounts of IBM Quantum. This program has no key of any of them, and needs none.

Needs a running gateway with two such accounts, named by QGATEWAY_TARGET and QGATEWAY_API_KEY; `make demo-ibm` starts one over an
emulator of the service, and runs this.
"""

import json
import sys
import time
from pathlib import Path

from qgateway import GatewayProvider
from qiskit import QuantumCircuit, transpile
from qiskit.providers.jobstatus import JOB_FINAL_STATES
from quickstart import console, follow, histogram
from rich.table import Table

BACKEND = "ibm_alder"

UNEVEN = """
OPENQASM 3.0;
include "stdgates.inc";
qubit[3] q;
bit[3] c;
h q[0];
cx q[0], q[1];
x q[2];
c = measure q;
"""


def chain(backend, length):
    """Return a circuit that entangles some qubits in a row, in the instruction set of a device."""
    circuit = QuantumCircuit(length, length, name=f"chain-{length}")
    circuit.h(0)
    for qubit in range(length - 1):
        circuit.cx(qubit, qubit + 1)
    circuit.measure(range(length), range(length))
    return transpile(circuit, backend, seed_transpiler=1)


def both_accounts(provider, accounts):
    """Send a transpiled circuit to one account, and OpenQASM 3 text to another."""
    first = provider.get_backend(BACKEND, instance=accounts[0])
    job = first.run(chain(first, 4), shots=1000, job_tags=["tour"], job_name="a chain")
    histogram(follow(job).get_counts(), f"Account {accounts[0]}: transpiled here, sent as QPY")
    second = provider.get_backend(BACKEND, instance=accounts[1])
    other = second.run(UNEVEN, shots=1000, transpile=1, job_tags=["tour"], job_name="uneven")
    histogram(follow(other).get_counts(), f"Account {accounts[1]}: OpenQASM 3 text, transpiled by the gateway")
    return [job, other]


def in_flight(provider, accounts):
    """Follow jobs of all accounts at once, while somebody changes the key of one of them."""
    jobs = []
    for account in (*accounts, *accounts):
        backend = provider.get_backend(BACKEND, instance=account)
        jobs.append(backend.run(chain(backend, 2 + len(jobs)), shots=500, job_tags=["tour", "in flight"]))
    started, left = time.monotonic(), {job.job_id() for job in jobs}
    with provider.watch_jobs(job_tags=["in flight"], timeout=20) as changes:
        while left and (change := next(changes, None)):
            job, status = change.job, change.event.status
            console.print(
                f"   [dim]{time.monotonic() - started:6.2f} s[/]  {job.job_id()[:8]}…  {job.account_:6} {status.name}"
            )
            if status in JOB_FINAL_STATES:
                left.discard(job.job_id())
    return jobs


def in_session(provider, account):
    """Run jobs in a session; leaving it closes it."""
    backend = provider.get_backend(BACKEND, instance=account)
    with backend.open_session(max_time="10m") as session:
        console.print(f"   {session.mode} {session.session_id} is open, for {session.max_time:g} s at most")
        jobs = [backend.run(chain(backend, length), shots=500, job_tags=["tour", "session"]) for length in (2, 3)]
        for job in jobs:
            follow(job)
    console.print(f"   {session.mode} {session.session_id} is closed")
    return jobs


def rename(job):
    """Give a job another name and other tags."""
    job.update_name("the first chain")
    job.update_tags(["tour", "keep"])
    console.print(f"   {job.name()!r} {job.tags()}")


def cancel(provider, account):
    """Cancel a job that waits in the provider's queue."""
    backend = provider.get_backend(BACKEND, instance=account)
    job = backend.run(chain(backend, 2), shots=500, job_tags=["tour", "unwanted"])
    console.print(f"   {job.job_id()[:8]}…  {job.status().name}: {job.pending_reason.message}")
    job.cancel()
    console.print(f"   {job.job_id()[:8]}…  {job.status().name}")


def listing(provider):
    """Print all jobs of the tour, of all accounts, as the gateway knows them."""
    table = Table("job", "account", "at the provider", "status", "QPU time", "tags", box=None, padding=(0, 1))
    for job in provider.jobs(limit=None, job_tags=["tour"], descending=False):
        seconds = job.metrics()["usage"]["quantum_seconds"]
        used = "" if seconds is None else f"{seconds:g} s"
        tags = ", ".join(job.tags())
        table.add_row(f"{job.job_id()[:8]}…", job.account_, job.provider_job_id_, job.status().name, used, tags)
    console.print(table)


def main(record=None):
    """Run the tour.

    Args:
        record: File to write the counts of all finished jobs to, by the provider's job id.
    """
    provider = GatewayProvider()
    console.rule("Accounts and backends")
    accounts = provider.instances()
    for backend in provider.backends():
        works = "takes jobs" if backend.status().operational else "takes no jobs"
        console.print(f"   {backend.account:6} {backend.name:10} {backend.num_qubits:3} qubits   {works}")

    console.rule("Circuits to both accounts")
    jobs = both_accounts(provider, accounts)
    console.rule("Jobs in flight while a key is changed")
    jobs += in_flight(provider, accounts)
    console.rule("A session")
    jobs += in_session(provider, accounts[0])
    console.rule("Name and tags")
    rename(jobs[0])
    console.rule("Cancelling")
    cancel(provider, accounts[1])
    console.rule("My jobs, in all accounts")
    listing(provider)
    if record is not None:
        counts = {job.provider_job_id_: job.result().get_counts() for job in jobs}
        Path(record).write_text(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
