"""OpenQASM 3 programs made at random, and texts that are nearly programs."""

from __future__ import annotations

import math
import re
from random import Random

GATES = {
    "h": (0, 1), "x": (0, 1), "sx": (0, 1), "tdg": (0, 1), "id": (0, 1), "rz": (1, 1), "p": (1, 1), "u1": (1, 1),
    "phase": (1, 1), "u2": (2, 1), "u3": (3, 1), "U": (3, 1), "cx": (0, 2), "CX": (0, 2), "cz": (0, 2), "swap": (0, 2),
    "cp": (1, 2), "crx": (1, 2), "cu": (4, 2), "ccx": (0, 3), "cswap": (0, 3),
}  # fmt: skip
"""Arguments and qubits of some gates of the language and of its standard file."""

_DEFINITIONS = {
    "mine": ("gate mine(a, b) p, q { rz(a + b) p; cx p, q; rx(-b / 2) q; }", 2, 2),
    "plain": ("gate plain p, q\n{\n  h p; /* ; */ cx p, q;\n}", 0, 2),
    "nested": ("gate nested(a) p { rz(a) p; inv @ s p; gphase(a); }", 1, 1),
}
_BLOCKS = (
    "if ({bit}) {{ x {qubit}; }}",
    "if ({bit}) {{ x {qubit}; }} else {{ h {qubit}; }}",
    "if ({bit} == true) z {qubit}; else y {qubit};",
    "for int i in [0:2] {{ rx(0.5) {qubit}; }}",
    "for uint i in {{0, 1}} x {qubit};",
    "while ({bit}) {{ h {qubit}; {bit} = measure {qubit}; }}",
    "ctrl @ x {qubit}, {other};",
    "inv @ s {qubit};",
    "pow(2) @ x {qubit};",
    "box {{ x {qubit}; }}",
)
_COMMENTS = ("// words; words", "/* a\nb; */", "/**/", '// it\'s "quoted" /*', "/* // */")


class Writer:
    """Writes one program.

    Args:
        random: Where everything comes from.
        statements: Number of statements.
        flat: Whether to leave out what is not flat: definitions, control flow, modifiers.
    """

    def __init__(self, random: Random, statements: int, *, flat: bool) -> None:
        self._random = random
        self._statements = statements
        self._flat = flat
        self._physical = random.random() < 0.2
        self._lines: list[str] = []
        self._calls: list[str] = []
        self._qubits: dict[str, int | None] = {}
        self._bits: dict[str, int | None] = {}
        self._parameters: list[str] = []
        self._gates = dict(GATES)

    def write(self) -> str:
        """Return the program."""
        random = self._random
        if random.random() < 0.9:
            self._lines.append(random.choice(["OPENQASM 3.0;", "OPENQASM 3;", "OPENQASM  3.1 ;"]))
        if random.random() < 0.95:
            self._lines.append('include "stdgates.inc";')
        else:
            self._gates = {"U": GATES["U"]}
        self._declare()
        for _ in range(self._statements):
            self._statement()
        return self._joined()

    def _declare(self) -> None:
        random = self._random
        if not self._physical:
            for name in random.sample(["q", "r", "Anc", "_work", "ψ", "q0"], random.randint(1, 3)):
                self._qubits[name] = size = random.choice([None, 1, 2, 3, 3, 4])
                self._lines.append(self._declaration(name, size, "qubit", "qreg"))
        for name in random.sample(["c", "meas", "Out", "b2"], random.randint(1, 3)):
            self._bits[name] = size = random.choice([None, 1, 2, 3, 3, 4])
            self._lines.append(self._declaration(name, size, "bit", "creg"))
        for name in random.sample(["theta", "φ", "x0", "lam"], random.choice([0, 0, 0, 1, 2])):
            self._parameters.append(name)
            self._lines.append(f"input {random.choice(['float', 'float[64]', 'angle', 'angle[32]'])} {name};")
        if not self._flat and len(self._gates) > 1:
            for name in random.sample(list(_DEFINITIONS), random.randint(0, 2)):
                text, *shape = _DEFINITIONS[name]
                self._gates[name] = (shape[0], shape[1])
                self._lines.append(text)

    def _declaration(self, name: str, size: int | None, new: str, old: str) -> str:
        length = "" if size is None else f"[{size}]"
        return f"{old} {name}{length};" if self._random.random() < 0.3 else f"{new}{length} {name};"

    def _statement(self) -> None:
        random = self._random
        kind = random.random()
        if kind < 0.1 and self._calls:
            self._lines.append(random.choice(self._calls))
        elif kind < 0.6:
            self._lines.append(self._call())
        elif kind < 0.72:
            self._lines.append(self._measurement())
        elif kind < 0.78:
            self._lines.append(f"barrier {', '.join(self._operands(random.randint(1, 3)))};")
        elif kind < 0.82:
            self._lines.append(f"reset {self._operands(1)[0]};")
        elif kind < 0.87:
            length = random.choice(["100ns", "2.5us", "10 dt", "1e3ns", "3ms", "0.5s", "7\tns"])
            self._lines.append(f"delay[{length}] {', '.join(self._operands(random.randint(1, 2)))};")
        elif kind < 0.9:
            self._lines.append(f"gphase({self._expression(2)});")
        elif kind < 0.91:
            self._lines.append("barrier;")
        elif not self._flat:
            self._lines.append(
                random.choice(_BLOCKS).format(
                    qubit=self._qubit(), other=self._qubit(), bit=random.choice(list(self._single_bits()) or ["c"])
                )
            )
        else:
            self._lines.append(self._call())

    def _call(self) -> str:
        random = self._random
        name = random.choice(list(self._gates))
        n_arguments, n_qubits = self._gates[name]
        arguments = ", ".join(self._expression(random.randint(0, 3)) for _ in range(n_arguments))
        call = f"{name}({arguments})" if n_arguments or random.random() < 0.03 else name
        self._calls.append(f"{call} {', '.join(self._operands(n_qubits))};")
        return self._calls[-1]

    def _measurement(self) -> str:
        random = self._random
        qubits = self._operands(1)[0]
        bits = random.choice([*self._bits, *self._single_bits(), *self._single_bits()])
        return f"{bits} = measure {qubits};" if random.random() < 0.6 else f"measure {qubits} -> {bits};"

    def _single_bits(self) -> list[str]:
        return [
            name if size is None else f"{name}[{index}]"
            for name, size in self._bits.items()
            for index in range(size or 1)
        ]

    def _qubit(self) -> str:
        random = self._random
        if self._physical:
            return f"${random.randrange(6)}"
        name, size = random.choice(list(self._qubits.items()))
        return name if size is None else f"{name}[{random.randrange(size)}]"

    def _operands(self, count: int) -> list[str]:
        """Return operands that are mostly different from each other."""
        random = self._random
        found: list[str] = []
        for _ in range(count):
            for _ in range(8):
                operand = self._qubit() if self._physical or random.random() < 0.85 else self._several()
                if operand not in found:
                    break
            found.append(operand)
        return found

    def _several(self) -> str:
        random = self._random
        name, size = random.choice(list(self._qubits.items()))
        if size is None or random.random() < 0.6:
            return name
        first = random.randrange(size)
        last = random.randint(first, size - 1)
        return random.choice([f"{name}[{first}:{last}]", f"{name}[{first}:2:{last}]", f"{name}[{{{first}, {last}}}]"])

    def _expression(self, depth: int) -> str:
        random = self._random
        if depth == 0 or random.random() < 0.3:
            return random.choice(
                [
                    repr(random.uniform(-7, 7)), repr(random.randrange(9)), "pi", "pi", "π", "tau", "euler", ".5", "2.",
                    "1e-3", "3E+2", "007", "-0.0", repr(math.pi), *self._parameters, *self._parameters,
                ]
            )  # fmt: skip
        left, right = self._expression(depth - 1), self._expression(depth - 1)
        gap = random.choice(["", "", " "])
        return random.choice(
            [
                f"{left}{gap}*{gap}{right}", f"{left}{gap}/{gap}{right}", f"{left}{gap}+{gap}{right}",
                f"{left}{gap}- {gap}{right}", f"-{gap}{left}", f"({left})", f"({left}{gap}+{gap}{right}){gap}*{gap}2",
            ]
        )  # fmt: skip

    def _joined(self) -> str:
        random = self._random
        style = random.random()
        if style < 0.5:
            return "\n".join(self._lines) + "\n"
        parts = []
        for line in self._lines:
            text = line
            if style > 0.7:
                for symbol in ",[]()":
                    if random.random() < 0.2:
                        text = text.replace(
                            symbol, random.choice([f" {symbol}", f"{symbol} ", f"{symbol}\n", f"\t{symbol}"])
                        )
            parts.append(text)
            parts.append(random.choice(["", "", "\n", " ", "\r\n", f"{random.choice(_COMMENTS)}\n"]))
        return "".join(parts)


def program(random: Random, statements: int = 12, *, flat: bool = True) -> str:
    """Return a program. Most are right; some are not, for reasons that only a careful reader sees."""
    return Writer(random, statements, flat=flat).write()


_PIECES = (
    *"()[]{};,.:=+-*/$@#\"'\\ \t\n\r\f\v\0_09eπθµ\u00a0é",
    "->", "**", "++", "==", "//", "/*", "*/", "0x1F", "0b1", "1_0", "1e", "1.5.2", "2pi", "3im", "5ns", "5 ns", "$0", "$7",
    "true", "if", "else", "measure", "barrier", "gate", "U", "x", "q", "c", "pi", "include", "OPENQASM", "pragma",
    "cal", "inv @ ", "ctrl @ ", "@a", "q[0]", "q[-1]", "q[9]", "q[0:1]", "c[0]", "-1", "1/2", "sin(1)",
    "qubit", "bit[2]", "input float", "end;", "let a = q;",
)  # fmt: skip


_LARGE = re.compile(r"[$\[][^\]]*?[0-9]{3}|\([0-9]{2,}\) @")
"""What may ask for so many bits that both importers only run out of memory."""


def mutant(random: Random, text: str) -> str:
    """Return a text with a few characters or words changed."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        words = _words(text)
        if not words:
            return text
        place = random.randrange(len(words))
        kind = random.randrange(6)
        if kind == 0:
            del words[place]
        elif kind == 1:
            words.insert(place, random.choice(_PIECES))
        elif kind == 2:
            words[place] = random.choice(_PIECES)
        elif kind == 3:
            other = random.randrange(len(words))
            words[place], words[other] = words[other], words[place]
        elif kind == 4:
            words.insert(place, words[random.randrange(len(words))])
        else:
            word = words[place]
            cut = random.randrange(len(word) + 1)
            words[place] = word[:cut] + random.choice([*_PIECES, ""]) + word[cut + random.randrange(2) :]
        changed = "".join(words)
        if not _LARGE.search(changed):
            text = changed
    return text


def _words(text: str) -> list[str]:
    words: list[str] = []
    for character in text:
        if words and character.isalnum() and words[-1][-1].isalnum():
            words[-1] += character
        else:
            words.append(character)
    return words
