"""Tasks for the tests of the pool: they need no Qiskit, and do what goes wrong in real ones."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gateway.domain.errors import FieldViolation, InvalidArgument, Reason
from gateway.domain.payload import PayloadFile

_seen: list[str] = []


def echo(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    return header, blobs


def describe(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    return {
        "pid": os.getpid(),
        "environment": dict(os.environ),
        "directory": str(Path.cwd()),
        "seen": list(_seen),
        "interrupt_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    }, ()


def warm_up(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    _seen.append("warm_up")
    return {}, ()


def print_much(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    print("a library that likes to talk " * 10_000, flush=True)  # noqa: T201
    os.write(1, b"a C library that likes to talk " * 10_000)
    print("to everybody " * 10_000, file=sys.stderr, flush=True)  # noqa: T201
    return {"stdin": sys.stdin.read()}, ()


def sleep(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    if "sign" in header:
        Path(header["sign"]).touch()
    time.sleep(header["pause"])
    return {}, ()


def allocate(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    return {"size": len(bytearray(header["size"]))}, ()


def die(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    if header.get("words"):
        os.write(2, header["words"].encode())
    if "code" in header:
        os._exit(header["code"])
    os.kill(os.getpid(), header["signal"])
    return {}, ()


def refuse(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    violations = [FieldViolation("program.qpy.data", "is not QPY"), FieldViolation("program", "is bad")]
    raise InvalidArgument("Bad.", reason=Reason.INVALID_PROGRAM, metadata={"a": "b"}, violations=violations)


def fail(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    secret = "a detail that is nobody's business"
    raise KeyError(secret)


def answer_with_file(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    def put(answers: object, prefix: str) -> list[PayloadFile]:
        path = Path(f"{prefix}.0")
        if header["kind"] == "link":
            path.symlink_to(header["other"])
        elif header["kind"] == "directory":
            path.mkdir()
        else:
            path = Path(header["other"])
        return [PayloadFile(path, 1)]

    sys.modules["__main__"]._put_large_into_files = put  # type: ignore[attr-defined]
    return {}, ()


def talk_nonsense(header: dict[str, Any], blobs: tuple[bytes, ...]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    for descriptor in range(3, 20):  # the pipe to the server is one of these
        try:
            os.write(descriptor, b"\xff" * 64)
        except OSError:
            continue
    time.sleep(60)
    return {}, ()


TASKS = {
    name: f"{__name__}:{name}"
    for name in (
        "echo",
        "describe",
        "warm_up",
        "print_much",
        "sleep",
        "allocate",
        "die",
        "refuse",
        "fail",
        "talk_nonsense",
        "answer_with_file",
    )
}
