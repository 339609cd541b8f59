"""The part of the grammar of OpenQASM 3 that flat programs are made of, as nodes of the reference syntax tree.

Every function here either returns what the reference parser returns for the same text, positions left out, or None: the text
is something else, and the reference parser has to look at it. None does not say that the text is wrong.

The rules of the language: `The OpenQASM live specification <https://openqasm.com>`_, version 3.
"""

from __future__ import annotations

import re
from typing import Any, cast

from openqasm3 import ast

KEYWORDS = frozenset(
    """
    OPENQASM include defcalgrammar def cal defcal gate extern box let break continue if else end return for while in switch
    case default pragma input output const readonly mutable qreg qubit creg bool bit int uint float angle complex array void
    duration stretch gphase inv pow ctrl negctrl durationof delay reset measure barrier true false im
    """.split()  # noqa: SIM905 - reads better
)
"""Words that name nothing."""

# Everything below is matched against texts in which a form feed stands for a comment, so white space is:
_W = r"[ \t\r\n\f]*+"
_LETTER = "A-Za-z_\u03b1-\u03c9\u0391-\u03a1\u03a3-\u03a9"  # and Greek: Qiskit's exporter writes θ
_NAME = rf"[{_LETTER}][{_LETTER}0-9]*+"
_WORD_END = rf"(?![{_LETTER}0-9])"
_INTEGER = "[0-9]++"
_NUMBER = r"(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"

_NAME_ALONE = re.compile(_NAME)
_SIGNED_NUMBER = re.compile(f"-?{_NUMBER}")
_OPERAND = re.compile(rf"(\$[0-9]++|{_NAME})(?:{_W}\[([0-9: \t\r\n\f]++)\])?")
_TOKEN = re.compile(rf"{_W}(?:({_NUMBER})|({_NAME})|([-+*/()]))")
_DECLARATION = re.compile(rf"(qubit|bit){_WORD_END}{_W}(?:\[{_W}({_INTEGER}){_W}\]{_W})?({_NAME})")
_OLD_DECLARATION = re.compile(rf"(qreg|creg){_WORD_END}{_W}({_NAME}){_W}(?:\[{_W}({_INTEGER}){_W}\])?")
_INPUT = re.compile(rf"input{_WORD_END}{_W}(float|angle){_WORD_END}{_W}(?:\[{_W}({_INTEGER}){_W}\]{_W})?({_NAME})")
_MEASURE_INTO = re.compile(rf"measure{_WORD_END}([^>]*+)>([^>]*+)")
_MEASURED = re.compile(rf"([^=]++)={_W}measure{_WORD_END}([^=]++)")
# White space inside of a literal with a unit is blanks and tabs only.
_DELAY = re.compile(rf"delay{_W}\[{_W}({_NUMBER})[ \t]*+(dt|ns|us|ms|s){_W}\](.*)", re.DOTALL)
_ON_QUBITS = re.compile(rf"(reset|barrier){_WORD_END}(.*)", re.DOTALL)
_GATE_HEAD = re.compile(rf"gate{_WORD_END}{_W}({_NAME}){_W}(?:\(([^()]*+)\))?([^()]*+)")
_PHASE = re.compile(rf"gphase{_W}\((.*)\)", re.DOTALL)

_LONGEST_EXPRESSION = 200
"""Characters. Bounds the depth of nesting; longer ones are for the reference parser."""
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def is_name(text: str) -> bool:
    """Return whether a text is an identifier of letters that need no second look."""
    return _NAME_ALONE.fullmatch(text) is not None and text not in KEYWORDS


def number(text: str) -> float | None:
    """Return the value of a literal with an optional sign. It is an integer where the literal is one."""
    text = text.strip()
    if _SIGNED_NUMBER.fullmatch(text) is None:
        return None
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def call_parts(text: str) -> tuple[str, list[str], str] | None:
    """Cut what may be the call of a gate into name, arguments and operands. None of them is looked at."""
    head, closing, tail = text.rpartition(")")
    if not closing:
        parts = text.split(None, 1)
        return (parts[0], [], parts[1]) if len(parts) > 1 else None
    name, opening, arguments = head.partition("(")
    if not opening:
        return None
    return name.strip(), arguments.split(",") if arguments.strip() else [], tail


def operands(text: str) -> list[Any] | None:
    """Return the bits and registers of a list such as `q[0], $3, r[0:2], s`: identifiers, with indices or without."""
    found = [_operand(part) for part in text.split(",")]
    return None if None in found else found


def expression(text: str) -> ast.Expression | None:
    """Return an arithmetic expression of numbers and names."""
    if len(text) > _LONGEST_EXPRESSION:
        return None
    tokens = _tokens(text)
    if tokens is None:
        return None
    tree = _sum(tokens, 1)
    return tree if not tokens else None


def definition(text: str) -> ast.QuantumGateDefinition | None:
    """Return the definition of a gate by calls of other gates.

    Args:
        text: One statement, up to its closing brace, and without white space around it.
    """
    opening, _, body = text.removesuffix("}").partition("{")
    head = _GATE_HEAD.fullmatch(opening)
    if head is None or not is_name(head[1]) or "{" in body or "}" in body:
        return None
    arguments = _names(head[2]) if head[2] and head[2].strip() else []
    qubits = _names(head[3])
    *statements, rest = body.split(";")
    calls = [_unitary(statement.strip()) for statement in statements]
    if arguments is None or qubits is None or rest.strip() or None in calls:
        return None
    return ast.QuantumGateDefinition(
        ast.Identifier(head[1]), arguments, qubits, cast(list[ast.QuantumStatement], calls)
    )


def statement(text: str) -> ast.Statement | None:
    """Return a declaration, measurement, reset, barrier, delay or global phase.

    Args:
        text: One statement without the semicolon, and without white space around it.
    """
    if (match := _MEASURED.fullmatch(text)) is not None:
        return _measurement(match[2], match[1]) or _measured_declaration(match[2], match[1])
    for pattern, make in _KINDS:
        if (match := pattern.fullmatch(text)) is not None:
            return make(match)
    return None


def _names(text: str) -> list[ast.Identifier] | None:
    names = [name.strip() for name in text.split(",")]
    return [ast.Identifier(name) for name in names] if all(map(is_name, names)) else None


def _unitary(text: str) -> ast.Statement | None:
    """Return the call of a gate without modifiers, a barrier or a global phase."""
    for pattern, make in ((_ON_QUBITS, _on_qubits), (_PHASE, _phase)):
        if (match := pattern.fullmatch(text)) is not None:
            return make(match) if match[1] != "reset" else None
    parts = call_parts(text)
    if parts is None or not is_name(parts[0]):
        return None
    arguments, qubits = [expression(argument) for argument in parts[1]], operands(parts[2])
    if None in arguments or qubits is None:
        return None
    return ast.QuantumGate([], ast.Identifier(parts[0]), cast(list[ast.Expression], arguments), qubits)


def _operand(text: str) -> ast.Identifier | ast.IndexedIdentifier | None:
    match = _OPERAND.fullmatch(text.strip())
    if match is None or match[1] in KEYWORDS:
        return None
    name = ast.Identifier(match[1])
    if match[2] is None:
        return name
    if name.name.startswith("$"):
        return None
    parts = [part.strip() for part in match[2].split(":")]
    if not all(part.isdecimal() for part in parts):
        return None
    index: ast.Expression | ast.RangeDefinition
    numbers = [ast.IntegerLiteral(int(part)) for part in parts]
    match numbers:
        case [index]:
            pass
        case [start, end]:
            index = ast.RangeDefinition(start, end, None)
        case [start, step, end]:
            index = ast.RangeDefinition(start, end, step)
        case _:
            return None
    return ast.IndexedIdentifier(name, [[index]])


def _tokens(text: str) -> list[re.Match[str]] | None:
    """Return the tokens of an expression, last first."""
    found, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        found.append(match)
        position = match.end()
    return found[::-1]


def _sum(tokens: list[re.Match[str]], weakest: int) -> ast.Expression | None:
    """Take an expression of operators that bind at least as strongly as `weakest` off the tokens."""
    left = _term(tokens)
    while left is not None and tokens and (binding := _PRECEDENCE.get(tokens[-1][3], 0)) >= weakest:
        operator = ast.BinaryOperator[tokens.pop()[3]]
        right = _sum(tokens, binding + 1)
        left = None if right is None else ast.BinaryExpression(operator, left, right)
    return left


def _term(tokens: list[re.Match[str]]) -> ast.Expression | None:
    """Take a literal, a name, a negation or an expression in parentheses off the tokens."""
    if not tokens:
        return None
    literal, name, symbol = tokens.pop().groups()
    if literal is not None:
        return ast.IntegerLiteral(int(literal)) if literal.isdecimal() else ast.FloatLiteral(float(literal))
    if name is not None:
        return None if name in KEYWORDS else ast.Identifier(name)
    if symbol == "-":
        operand = _term(tokens)
        return None if operand is None else ast.UnaryExpression(ast.UnaryOperator["-"], operand)
    if symbol != "(":
        return None
    inner = _sum(tokens, 1)
    return inner if tokens and tokens.pop()[3] == ")" else None


def _declaration(match: re.Match[str]) -> ast.Statement | None:
    return _declared(match[1], match[3], match[2])


def _old_declaration(match: re.Match[str]) -> ast.Statement | None:
    return _declared(match[1], match[2], match[3])


def _declared(kind: str, name: str, size: str | None) -> ast.Statement | None:
    if name in KEYWORDS or (size is not None and int(size) == 0):
        return None
    length = None if size is None else ast.IntegerLiteral(int(size))
    if kind in {"qubit", "qreg"}:
        return ast.QubitDeclaration(ast.Identifier(name), length)
    return ast.ClassicalDeclaration(ast.BitType(length), ast.Identifier(name), None)


def _input(match: re.Match[str]) -> ast.Statement | None:
    kind, size, name = match.groups()
    if name in KEYWORDS or (size is not None and int(size) == 0):
        return None
    make = ast.FloatType if kind == "float" else ast.AngleType
    width = None if size is None else ast.IntegerLiteral(int(size))
    return ast.IODeclaration(ast.IOKeyword.input, make(width), ast.Identifier(name))


def _measurement(source: str, target: str) -> ast.Statement | None:
    qubits, bits = _operand(source), _operand(target)
    if qubits is None or bits is None or target.lstrip().startswith("$"):
        return None
    return ast.QuantumMeasurementStatement(ast.QuantumMeasurement(qubits), bits)


def _measured_declaration(source: str, target: str) -> ast.Statement | None:
    match, qubits = _DECLARATION.fullmatch(target.strip()), _operand(source)
    declared = None if match is None or match[1] != "bit" else _declaration(match)
    if not isinstance(declared, ast.ClassicalDeclaration) or qubits is None:
        return None
    declared.init_expression = ast.QuantumMeasurement(qubits)
    return declared


def _measured_into(match: re.Match[str]) -> ast.Statement | None:
    source = match[1]
    return _measurement(source[:-1], match[2]) if source.endswith("-") else None


def _delay(match: re.Match[str]) -> ast.Statement | None:
    length = ast.DurationLiteral(float(match[1]), ast.TimeUnit[match[2]])
    qubits = operands(match[3]) if match[3].strip() else []
    return None if qubits is None else ast.DelayInstruction(length, qubits)


def _on_qubits(match: re.Match[str]) -> ast.Statement | None:
    if match[1] == "barrier" and not match[2]:
        return ast.QuantumBarrier([])
    qubits = operands(match[2])
    if qubits is None:
        return None
    if match[1] == "barrier":
        return ast.QuantumBarrier(qubits)
    return ast.QuantumReset(qubits[0]) if len(qubits) == 1 else None


def _phase(match: re.Match[str]) -> ast.Statement | None:
    angle = expression(match[1])
    return None if angle is None else ast.QuantumPhase([], angle, [])


_KINDS = (
    (_MEASURE_INTO, _measured_into),
    (_ON_QUBITS, _on_qubits),
    (_DELAY, _delay),
    (_DECLARATION, _declaration),
    (_OLD_DECLARATION, _old_declaration),
    (_INPUT, _input),
    (_PHASE, _phase),
)
