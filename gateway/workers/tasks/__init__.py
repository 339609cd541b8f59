"""What worker processes can do. Only these processes import the modules of this package: Qiskit, Aer and NumPy live here.

A task is a function of a header (JSON values) and blobs (bytes) that returns the same. What it raises as a `GatewayError`
reaches the caller; anything else is a failure of the worker.
"""

TASKS = {
    "prepare": "gateway.workers.tasks.programs:prepare",
    "qpy_versions": "gateway.workers.tasks.qpy:qpy_versions",
    "warm_up_programs": "gateway.workers.tasks.programs:warm_up",
    "select_result": "gateway.workers.tasks.results:select_result",
    "describe_devices": "gateway.workers.tasks.simulation:describe_devices",
    "simulate": "gateway.workers.tasks.simulation:simulate",
    "ibm_encode": "gateway.workers.tasks.ibm_payloads:ibm_encode",
    "ibm_decode": "gateway.workers.tasks.ibm_results:ibm_decode",
    "warm_up_simulation": "gateway.workers.tasks.simulation:warm_up",
}
"""Name of each task, and the function that does it."""
