"""Reads untrusted programs in worker processes."""

from __future__ import annotations

from gateway.domain.backend import Backend
from gateway.domain.job import ProgramKind, ProgramSummary, RunOptions
from gateway.domain.payload import Payload, PayloadFile
from gateway.domain.program import PreparedProgram
from gateway.workers.codec import BACKEND
from gateway.workers.pool import WorkerPool


class WorkerProgramReader:
    """The `gateway.domain.program.ProgramReader` that reads in worker processes.

    Args:
        pool: Where the work is done. `warm_up="warm_up_programs"` suits it.
        time_limit: Longest time for one program or result, in seconds.
        memory_limit: Most memory for one program or result, in bytes.
    """

    def __init__(self, pool: WorkerPool, *, time_limit: float = 60.0, memory_limit: int = 2 * 2**30) -> None:
        self._pool = pool
        self._time_limit = time_limit
        self._memory_limit = memory_limit
        self._qpy_versions: tuple[int, int] | None = None
        self._descriptions: dict[tuple[str, str], tuple[Backend, bytes]] = {}

    async def prepare(self, program: Payload, backend: Backend, options: RunOptions) -> PreparedProgram:
        """Read, check, bind and transpile a program; see `gateway.domain.program.ProgramReader.prepare`.

        `options.dynamic` changes nothing: whether a circuit has control flow is seen from the circuit.
        """
        header, (circuits,) = await self._pool.run_large(
            "prepare",
            {"transpile": options.transpile},
            program,
            self._description(backend),
            time_limit=self._time_limit,
            memory_limit=self._memory_limit,
        )
        summary = ProgramSummary(
            kind=ProgramKind(header["kind"]),
            circuit_count=header["circuit_count"],
            size_bytes=header["size_bytes"],
            sha256=header["sha256"],
            num_qubits=header["num_qubits"],
        )
        return PreparedProgram(summary, circuits, header["dynamic"])

    async def select_result(
        self, result: Payload, experiments: tuple[int, ...], *, include_counts: bool, omit_shots: bool, max_bytes: int
    ) -> Payload:
        """Return a part of a result, or a result with counts; see `gateway.domain.program.ProgramReader.select_result`."""
        selection = {
            "experiments": experiments,
            "include_counts": include_counts,
            "omit_shots": omit_shots,
            "max_bytes": max_bytes,
        }
        # Of a file, the worker reads only what it needs.
        in_file = isinstance(result, PayloadFile)
        _, (selected,) = await self._pool.run_large(
            "select_result",
            {**selection, "file": str(result.path)} if isinstance(result, PayloadFile) else selection,
            *(() if in_file else (result,)),
            time_limit=self._time_limit,
            memory_limit=self._memory_limit,
        )
        return selected

    async def qpy_versions(self) -> tuple[int, int]:
        """Return the oldest and the newest QPY version that is read; asked for once."""
        if self._qpy_versions is not None:
            return self._qpy_versions
        header, _ = await self._pool.run(
            "qpy_versions", {}, time_limit=self._time_limit, memory_limit=self._memory_limit
        )
        self._qpy_versions = header["oldest"], header["newest"]
        return self._qpy_versions

    def _description(self, backend: Backend) -> bytes:
        """Return a backend as JSON. Providers hand out the same object again and again, so it is written once."""
        key = (backend.account, backend.name)
        known = self._descriptions.get(key)
        if known is None or known[0] is not backend:
            known = self._descriptions[key] = (backend, BACKEND.dump_json(backend))
        return known[1]
