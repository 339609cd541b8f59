"""Importing OpenQASM 3 quickly: flat programs, and flat stretches of others.

Qiskit's reference importer spends nearly all of its time in a parser that is written in Python. Here only what needs that parser
gets it: the text is cut into statements; those of a kind that is understood (`openqasm3_syntax`) go to the converter of the
reference importer as the nodes that its own parser would have made; calls of gates, of which there are most, go straight into
the circuit. Whatever else there is goes through the reference parser, statement by statement, between the others.

A text is a sequence of statements and nothing else, so statements that can be parsed one by one make the same program
together. If anything at all goes wrong, the circuit is given up, and the reference importer decides about the whole text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import openqasm3
from openqasm3 import ast
from qiskit import QuantumCircuit
from qiskit.circuit import CircuitInstruction, Gate, Qubit
from qiskit_qasm3_import import types
from qiskit_qasm3_import.converter import ConvertVisitor
from qiskit_qasm3_import.state import State

from gateway.workers.tasks import openqasm3_syntax as syntax
from gateway.workers.tasks.openqasm3_text import COMMENT, NotFlat, Outline, outline


def read_quickly(source: str) -> QuantumCircuit | None:
    """Return the circuit that the reference importer makes of an OpenQASM 3 text, or None: ask the reference importer.

    None says nothing about the text; it may be right or wrong.
    """
    try:
        return cast(QuantumCircuit, _Importer(outline(source)).convert(ast.Program([])).circuit)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever it was, the reference importer has the word
        return None


class _Importer(ConvertVisitor):
    """The reference importer's converter, which reads the program from a text as it goes."""

    def __init__(self, text: Outline) -> None:
        super().__init__()
        self._text = text
        self._waiting: tuple[int, int] | None = None
        """Where the statements are that the reference parser has to parse before anything else happens."""
        self._gates: dict[str, tuple[Callable[..., Gate], int]] = {}
        """What makes a gate, and the number of its arguments, by name."""
        self._values: dict[str, Any] = {}
        """Values of expressions."""
        self._symbolic = False
        """Whether any value is symbolic."""
        self._targets: dict[str, list[tuple[Qubit, ...]]] = {}
        """The qubits of each gate that a call makes, by its operands."""
        self._repeatable: dict[str, CircuitInstruction] = {}
        """What a statement appended, where the same can be appended again."""

    def visit_Program(self, node: ast.Program, context: State) -> State:  # noqa: N802 - the name that is looked for
        """Convert the text. The empty program that stands for it says nothing."""
        del node
        if self._text.includes_gates:
            self.visit(ast.Include("stdgates.inc"), context)
        for start, end in self._text.statements():
            if not self._understand(self._text.body[start:end], context):
                self._waiting = (start if self._waiting is None else self._waiting[0], end)
        self._catch_up(context)
        return context

    def _understand(self, text: str, context: State) -> bool:
        """Convert a statement without the reference parser, if it is of a kind that is understood."""
        if (instruction := self._repeatable.get(text)) is not None:
            self._catch_up(context)
            context.circuit._append(instruction)  # noqa: SLF001 - as _append_gate did before
            return True
        if text.endswith("}"):
            return self._convert(syntax.definition(text.strip()), context)
        if not text.endswith(";"):
            return False
        statement = text[:-1].strip()
        if (appended := self._call(statement, context)) is None:
            return self._convert(syntax.statement(statement), context)
        if "(" not in statement and len(appended) == 1 and not appended[0].operation.mutable:
            self._repeatable[text] = appended[0]
        return True

    def _catch_up(self, context: State) -> None:
        """Convert the statements that wait for the reference parser."""
        if self._waiting is None:
            return
        start, end = self._waiting
        self._waiting = None
        for statement in openqasm3.parse(self._text.body[start:end].replace(COMMENT, "\n")).statements:
            self.visit(statement, context)

    def _convert(self, node: ast.Statement | None, context: State) -> bool:
        """Convert a statement, if it is understood."""
        if node is None:
            return False
        self._catch_up(context)
        self.visit(node, context)
        return True

    def _call(self, statement: str, context: State) -> list[CircuitInstruction] | None:
        """Append what a statement calls, if it is the call of a gate without modifiers.

        Returns:
            What was appended, if it has no symbols in it; None if the statement is not such a call.
        """
        parts = syntax.call_parts(statement)
        if parts is None:
            return None
        name, arguments, operands = parts
        values = [value if (value := syntax.number(part)) is not None else self._values.get(part) for part in arguments]
        if name not in self._gates or operands not in self._targets or any(value is None for value in values):
            if not self._learn(name, arguments, operands, context):
                return None
            values = [self._values[argument] for argument in arguments]
        self._catch_up(context)
        make, n_arguments = self._gates[name]
        if len(values) != n_arguments:
            raise NotFlat
        gate, targets = make(*values), self._targets[operands]
        gates = [gate, *(gate.copy() for _ in targets[1:])]
        if values and self._symbolic:
            for own, qubits in zip(gates, targets, strict=False):
                context.circuit.append(own, qubits, [])
            return []
        return [_append_gate(context.circuit, own, qubits) for own, qubits in zip(gates, targets, strict=False)]

    def _learn(self, name: str, arguments: list[str], operands: str, context: State) -> bool:
        """Find out what the parts of a call mean. Once known they stay so: a program gives each name once."""
        expressions: dict[str, ast.Expression] = {}
        for text in arguments:
            if text in self._values:
                continue
            if (value := syntax.number(text)) is not None:
                self._values[text] = value
            elif (expression := syntax.expression(text)) is not None:
                expressions[text] = expression
            else:
                return False
        qubits = None
        if operands not in self._targets and (qubits := syntax.operands(operands)) is None:
            return False
        if name not in self._gates and not syntax.is_name(name):
            return False
        # It is a call, whatever it calls. What waits comes first, and may declare the names.
        self._catch_up(context)
        if name not in self._gates:
            self._gates[name] = _gate_of(name, context)
        for text, expression in expressions.items():
            self._values[text] = value = self._resolve_angle(expression, context)
            self._symbolic = self._symbolic or not isinstance(value, int | float)
        if qubits is not None:
            self._targets[operands] = self._targets_of(qubits, context)
        return True

    def _targets_of(self, operands: list[Any], context: State) -> list[tuple[Qubit, ...]]:
        """Return the qubits of each gate that a call makes."""
        resolved = [self._resolve_qarg(operand, context) for operand in operands]
        targets = list(self._broadcast_gate(resolved, operands[0]))
        if any(len(set(target)) != len(target) for target in targets):
            raise NotFlat
        return targets


def _gate_of(name: str, context: State) -> tuple[Callable[..., Gate], int]:
    """Return what makes a gate, and the number of its arguments."""
    symbol = context.symbol_table.get(name)
    if symbol is None or not isinstance(symbol.type, types.Gate):
        raise NotFlat
    arguments = symbol.type.n_classical
    return symbol.data, arguments if isinstance(arguments, int) else len(arguments)


def _append_gate(circuit: QuantumCircuit, gate: Gate, qubits: tuple[Qubit, ...]) -> CircuitInstruction:
    """Do what `append` does with qubits of the circuit that differ from each other, without a second look at each."""
    if len(qubits) != gate.num_qubits:
        raise NotFlat
    instruction = CircuitInstruction(gate, (), ()).replace(qubits=qubits, clbits=())
    circuit._append(instruction)  # noqa: SLF001 - for callers that have checked what is to be checked
    return instruction
