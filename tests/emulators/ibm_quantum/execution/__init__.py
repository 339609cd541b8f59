"""Running programs: everything that needs Qiskit, in a process of its own."""
