"""Programs for the tests of IBM Quantum's provider."""

from __future__ import annotations

from typing import Any

import orjson
from qgateway.v1 import program_pb2

from gateway.domain.job import ProgramKind, ProgramSummary, RunOptions
from gateway.domain.program import PreparedProgram
from gateway.domain.provider import ProviderSubmission
from tests.unit.emulators.caller import sampler_params
from tests.unit.workers.make import bell, qpy_program

PROGRAM = qpy_program(bell())


def raw_program(parameters: bytes) -> bytes:
    program = program_pb2.RawProgram(program_id="sampler", parameters=parameters)
    return program_pb2.Program(raw=program).SerializeToString()


def raw(parameters: bytes, program_id: str = "sampler") -> PreparedProgram:
    program = program_pb2.RawProgram(program_id=program_id, parameters=parameters).SerializeToString()
    return PreparedProgram(ProgramSummary(ProgramKind.RAW, 0, len(program), "", 0), program, dynamic=False)


def raw_submission(parameters: bytes, marker: str = "m1", **fields: Any) -> ProviderSubmission:
    return ProviderSubmission(marker, "ibm_alder", raw(parameters), RunOptions(), f"jobs/{marker}", **fields)


def raw_jobs(count: int) -> list[ProviderSubmission]:
    parameters = orjson.dumps(sampler_params())
    return [raw_submission(parameters, f"m{number}") for number in range(count)]
