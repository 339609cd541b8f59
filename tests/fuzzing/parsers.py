"""What reads bytes or text from outside in the server's own process, each with the errors that it may raise.

`tests.fuzzing.guided` lets atheris look for inputs that raise anything else; `Parsers` tries random ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from google.protobuf.message import DecodeError
from qgateway.v1 import admin_service_pb2, job_service_pb2, program_pb2, session_service_pb2

from gateway.access.api_keys import KeyRing, new_api_key
from gateway.domain.errors import InvalidArgument, Unauthenticated
from gateway.domain.wire import WireError, fields
from gateway.engine.tokens import ResumeTokens, page_token, read_page_token
from gateway.providers.ibm.bodies import raw_program
from gateway.rpc import requests
from gateway.workers.frames import FrameError, decode, encode_head
from tests.fuzzing.messages import BELL, mutated
from tests.fuzzing.tally import Tally


@dataclass(frozen=True)
class Parser:
    """Something that reads."""

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    """What it may raise."""
    examples: tuple[bytes, ...]
    """What it reads, to begin with."""


_RING = KeyRing((), b"0" * 32)
_TOKENS = ResumeTokens(b"1" * 32)
_SUBMISSION = job_service_pb2.SubmitJobRequest(
    program=program_pb2.Program(openqasm={"circuits": [{"source": BELL}]}), backend="local_simulator", tags=["a"]
)
_SUBMISSION.options.header.update({"a": [1, {"b": None}], "c": "d"})


def _frame(data: bytes) -> object:
    cut = min(len(data), data[0] if data else 0)
    return decode(data[1:cut], data[cut:])


def _listing(data: bytes) -> object:
    request = job_service_pb2.ListJobsRequest.FromString(data)
    return requests.job_filter("filter", request.filter, "t"), requests.page_size(request.page_size)


PARSERS: Mapping[str, Parser] = {
    "api_key": Parser(
        lambda data: _RING.authenticate(data.decode("utf-8", "replace")),
        (Unauthenticated,),
        (f"Bearer {new_api_key()}".encode(),),
    ),
    "resume_token": Parser(
        lambda data: _TOKENS.read(data.decode("utf-8", "replace")), (InvalidArgument,), (_TOKENS.token(7).encode(),)
    ),
    "page_token": Parser(
        lambda data: read_page_token(data.decode("utf-8", "replace"), b"x"),
        (InvalidArgument,),
        (page_token(7, b"x").encode(),),
    ),
    "wire": Parser(lambda data: list(fields(memoryview(data))), (WireError,), (_SUBMISSION.SerializeToString(),)),
    "frame": Parser(_frame, (FrameError,), (bytes([17]) + encode_head({"a": 1}, [b"xyz"])[12:] + b"xyz",)),
    "raw_program": Parser(
        raw_program,
        (InvalidArgument,),
        (program_pb2.RawProgram(program_id="p", parameters=b'{"a": [1, 2e3, null, "\\u00e9"]}').SerializeToString(),),
    ),
    "submission": Parser(
        lambda data: requests.job_request(job_service_pb2.SubmitJobRequest.FromString(data), "a tenant"),
        (InvalidArgument, DecodeError),
        (_SUBMISSION.SerializeToString(),),
    ),
    "listing": Parser(
        _listing,
        (InvalidArgument, DecodeError),
        (
            job_service_pb2.ListJobsRequest(
                filter={"backends": ["b"], "created_after": {"seconds": 5}}
            ).SerializeToString(),
        ),
    ),
    "new_session": Parser(
        lambda data: requests.session_request(session_service_pb2.CreateSessionRequest.FromString(data)),
        (InvalidArgument, DecodeError),
        (
            session_service_pb2.CreateSessionRequest(
                session={"backend": "b", "mode": 2, "max_time": {"seconds": 9}}
            ).SerializeToString(),
        ),
    ),
    "new_api_key": Parser(
        lambda data: requests.new_api_key(admin_service_pb2.ApiKey.FromString(data)),
        (InvalidArgument, DecodeError),
        (
            admin_service_pb2.ApiKey(
                display_name="n", tenant="t", roles=[1], expire_time={"seconds": 4_000_000_000}
            ).SerializeToString(),
        ),
    ),
}
"""By name."""


class ParserFuzzer:
    """Tries random inputs on all of them.

    Args:
        seed: The same seed tries the same inputs.
    """

    def __init__(self, seed: int) -> None:
        self.tally = Tally("parsers")
        self._random = Random(f"parsers-{seed}")

    async def run(self, inputs: int) -> None:
        """Try inputs, the same number on each."""
        names = list(PARSERS)
        for number in range(inputs):
            name = names[number % len(names)]
            self._try(name, PARSERS[name])
            if number % 500 == 0:
                await asyncio.sleep(0)

    def _try(self, name: str, parser: Parser) -> None:
        data = mutated(self._random, self._random.choice(parser.examples))
        try:
            parser.read(data)
            outcome = "read"
        except parser.refusals:
            outcome = "refused"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            outcome = "WRONG"
            self.tally.blame(f"{name}: {error!r} for {data.hex()}")
        self.tally.counts[f"{name} {outcome}"] += 1
