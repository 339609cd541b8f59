"""An emulator of the IBM Quantum service: a real HTTP server that runs programs on Aer and misbehaves on demand.

`python -m tests.emulators.ibm_quantum` starts it. Tests start it with `process.EmulatorProcess` and steer it with
`remote.EmulatorControl`.

Parts: `app` puts the server together; `iam` exchanges keys for tokens and finds instances; `routes` is the job API over
`devices`, `jobs` and `sessions`; `execution` runs programs in a process of its own; `faults` and `control` make the
server misbehave and tell what it saw.
"""
