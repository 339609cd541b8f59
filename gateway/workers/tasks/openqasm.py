"""Reading OpenQASM text, with errors that name line and column."""

from __future__ import annotations

import re
from typing import Any

from openqasm3.parser import QASM3ParsingError
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.qasm3 import QASM3ImporterError

from gateway.workers.tasks.openqasm3_flat import read_quickly
from gateway.workers.tasks.violations import Unreadable

_GAP = r"(?:\s|//[^\n]*(?:\n|$)|/\*(?:[^*]|\*(?!/))*\*/)*"
_NOTHING = re.compile(_GAP)
_VERSION = re.compile(_GAP + r"OPENQASM\s+(\d+)(?:\.\d+)?\s*;")
_V2_MESSAGE = re.compile(r"[^:\n]*:(\d+),(\d+): (.*)", re.DOTALL)
_V3_MESSAGE = re.compile(r"(\d+),(\d+): (.*)", re.DOTALL)
_V3_LEXER_MESSAGE = re.compile(r"L(\d+):C(\d+): (.*)", re.DOTALL)
_FEW = 4


def read_openqasm(source: str) -> QuantumCircuit:
    """Return the circuit that an OpenQASM 2 or 3 text describes. No other file is read.

    Raises:
        Unreadable: The text is wrong; says where.
    """
    if _NOTHING.fullmatch(source):
        raise Unreadable("the text is empty")
    version = match.group(1) if (match := _VERSION.match(source)) else "3"
    if version == "2":
        return _read_v2(source)
    if version == "3":
        return _read_v3(source)
    raise Unreadable(f"OpenQASM {version} is not known; versions 2 and 3 are")


def _read_v2(source: str) -> QuantumCircuit:
    try:
        return qasm2.loads(
            source,
            include_path=(),
            custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS,
            custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
        )
    except qasm2.QASM2ParseError as error:
        raise _located(_V2_MESSAGE, error.message) from error
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise Unreadable(_in_words(error)) from error


def _read_v3(source: str) -> QuantumCircuit:
    if (circuit := read_quickly(source)) is not None:
        return circuit
    try:
        return qasm3.loads(source)
    except MemoryError:
        raise
    except QASM3ImporterError as error:
        raise _located(_V3_MESSAGE, error.message) from error
    except QASM3ParsingError as error:
        raise _syntax_error(error) from error
    except RecursionError as error:
        raise Unreadable("the text is nested too deeply") from error
    except Exception as error:
        span = _span_of_failure(error)
        where = _where(span.start_line, span.start_column) if span is not None else ""
        raise Unreadable(where + _in_words(error)) from error


def _located(pattern: re.Pattern[str], message: str) -> Unreadable:
    """Make the error of a message that begins with line and column, columns counted from 0."""
    if (match := pattern.fullmatch(message)) is None:
        return Unreadable(message)
    line, column, text = match.groups()
    return Unreadable(_where(int(line), int(column)) + text)


def _where(line: int, column: int) -> str:
    return f"line {line}, column {column + 1}: "


def _syntax_error(error: QASM3ParsingError) -> Unreadable:
    """Make the error of a text that the grammar does not allow; the parser itself gives no message for it."""
    cause = error.__cause__
    wrong: Any = next((item for item in (cause, *getattr(cause, "args", ())) if hasattr(item, "offendingToken")), None)
    if wrong is None or wrong.offendingToken is None:
        return _located(_V3_LEXER_MESSAGE, str(error) or "this is not OpenQASM 3")
    token = wrong.offendingToken
    problem = "the text ends too early" if token.type == token.EOF else f"unexpected {token.text!r}"
    return Unreadable(f"{_where(token.line, token.column)}{problem}{_expected(wrong)}")


def _expected(error: Any) -> str:
    """Return what the parser would have taken, if that is little enough to help."""
    recognizer = error.recognizer
    kinds = list(error.getExpectedTokens() or ())
    if not 0 < len(kinds) <= _FEW:
        return ""
    literal, symbolic = recognizer.literalNames, recognizer.symbolicNames
    names = [
        literal[kind] if kind < len(literal) and literal[kind] != "<INVALID>" else symbolic[kind]
        for kind in kinds
        if kind > 0
    ]
    return f", expected {' or '.join(names)}" if names else ""


def _span_of_failure(error: BaseException) -> Any:
    """Return where in the text the importer was when a library below it failed: the innermost node that it looked at."""
    span, frame = None, error.__traceback__
    while frame is not None:
        span = getattr(frame.tb_frame.f_locals.get("node"), "span", None) or span
        frame = frame.tb_next
    return span


def _in_words(error: BaseException) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return text or f"the text cannot be read ({type(error).__name__})"
