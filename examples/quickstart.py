"""A tour of the gateway with the Python client.

Needs a running gateway, named by QGATEWAY_TARGET and QGATEWAY_API_KEY; `make demo` starts one and runs this.
"""

import time
from math import pi

from qgateway import GatewayProvider, IBMJobInvalidStateError
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.circuit.library import quantum_volume
from qiskit.providers import JobStatus
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)

BELL = """
OPENQASM 3.0;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
h q[0];
cx q[0], q[1];
c = measure q;
"""


def follow(job):
    """Print a line at each change of a job's status, as the gateway tells of it, and return its result."""
    started = time.monotonic()

    def tell(job_id, status, job):
        place = "" if job.queue_position() is None else f" at position {job.queue_position()}"
        console.print(f"   [dim]{time.monotonic() - started:6.2f} s[/]  {job_id[:8]}…  {status.name}{place}")

    job.wait_for_final_state(callback=tell)
    return job.result()


def histogram(counts, title, most=8):
    """Print counts as bars, the most frequent outcomes first."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    shots, largest = sum(counts.values()), max(counts.values())
    for outcome, count in sorted(counts.items(), key=lambda item: -item[1])[:most]:
        table.add_row(outcome, str(count), f"{count / shots:6.1%}", "█" * max(1, round(30 * count / largest)))
    console.print(table)


def bell(provider):
    """Send OpenQASM 3 text."""
    backend = provider.get_backend("local_simulator")
    job = backend.run(BELL, shots=1000, job_tags=["quickstart", "bell"], job_name="Bell pair")
    histogram(follow(job).get_counts(), "Bell pair, sent as OpenQASM 3 text")
    return job


def ghz(provider):
    """Transpile a circuit for a device, and run it there."""
    backend = provider.get_backend("local_noisy_27q")
    circuit = QuantumCircuit(12, name="ghz")
    circuit.h(0)
    for qubit in range(11):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    job = backend.run(transpile(circuit, backend, seed_transpiler=1), shots=2000, job_tags=["quickstart"])
    histogram(follow(job).get_counts(), "12-qubit GHZ state on the noisy 27-qubit device")


def sweep(provider):
    """Run twenty bound copies of one circuit in one job."""
    angle = Parameter("angle")
    circuit = QuantumCircuit(1, name="rotation")
    circuit.rx(angle, 0)
    circuit.measure_all()
    angles = [pi * step / 19 for step in range(20)]
    bound = [circuit.assign_parameters({angle: value}) for value in angles]
    job = provider.get_backend("local_simulator").run(bound, shots=1000, job_tags=["quickstart", "sweep"])
    result = follow(job)
    ones = {f"{value:.2f}": result.get_counts(index).get("1", 0) for index, value in enumerate(angles)}
    histogram(ones, "Shots that gave 1, by angle: twenty circuits in one job", most=20)


def dynamic(provider):
    """Run a circuit that decides by what it measured."""
    circuit = QuantumCircuit(2, 2, name="feed-forward")
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.measure(1, 1)
    job = provider.get_backend("local_simulator").run(circuit, shots=1000, job_tags=["quickstart"])
    histogram(follow(job).get_counts(), "Dynamic circuit: the second qubit follows the first")


def cancel(provider):
    """Start a job that would take minutes, and cancel it."""
    circuit = quantum_volume(24, depth=200, seed=7).decompose()
    circuit.measure_all()
    job = provider.get_backend("local_simulator").run(circuit, shots=1000, job_tags=["quickstart"], job_name="too long")
    started = time.monotonic()

    def cancel_once_running(job_id, status, job):
        console.print(f"   [dim]{time.monotonic() - started:6.2f} s[/]  {job_id[:8]}…  {status.name}")
        if status is JobStatus.RUNNING:
            job.cancel()

    job.wait_for_final_state(callback=cancel_once_running)
    console.print(f"   [dim]{time.monotonic() - started:6.2f} s[/]  {job.job_id()[:8]}…  {job.status().name}")
    try:
        job.result()
    except IBMJobInvalidStateError as error:
        console.print(f"   [dim]{error.message}[/]")


def main():
    """Run the tour."""
    provider = GatewayProvider()
    console.rule("Backends")
    for backend in provider.backends():
        console.print(f"   {backend.name:18} {backend.num_qubits:3} qubits   {backend.description}")

    console.rule("A Bell pair")
    job = bell(provider)
    console.rule("A device with noise")
    ghz(provider)
    console.rule("A sweep")
    sweep(provider)
    console.rule("Control flow")
    dynamic(provider)

    console.rule("Name and tags")
    job.update_name("My first pair")
    job.update_tags(["quickstart", "keep"])
    again = provider.retrieve_job(job.job_id())
    console.print(f"   {again.name()!r} {again.tags()}")

    console.rule("Cancelling")
    cancel(provider)

    console.rule("My jobs")
    for listed in provider.jobs(limit=10, job_tags=["quickstart"]):
        created = listed.creation_date().strftime("%H:%M:%S")
        console.print(f"   {created}  {listed.job_id()[:8]}…  {listed.status().name:9}  {listed.name() or ''}")


if __name__ == "__main__":
    main()
