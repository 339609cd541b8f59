"""Processes that parse, transpile and simulate, with limits on time and memory. Qiskit and Aer are imported in them only."""

from gateway.workers.ibm_payloads import WorkerIbmPayloads
from gateway.workers.pool import WorkerPool
from gateway.workers.reader import WorkerProgramReader
from gateway.workers.simulators import WorkerSimulators

__all__ = ["WorkerIbmPayloads", "WorkerPool", "WorkerProgramReader", "WorkerSimulators"]
