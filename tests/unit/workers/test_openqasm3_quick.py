"""The quick importer of OpenQASM 3 makes exactly what the reference importer makes, or nothing."""

from __future__ import annotations

from random import Random

import openqasm3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openqasm3.parser import qasm3Lexer
from qiskit import QuantumCircuit, qasm3, transpile
from qiskit.circuit.random import random_circuit
from qiskit.providers.fake_provider import GenericBackendV2

from gateway.workers.tasks import openqasm3_syntax
from gateway.workers.tasks.openqasm3_flat import read_quickly
from tests.fuzzing.circuits import image
from tests.fuzzing.openqasm3 import Tally, check, run
from tests.fuzzing.openqasm3_programs import program
from tests.unit.workers.openqasm3_samples import FLAT, MIXED

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
LARGE = 200_000


def same(quick: QuantumCircuit | None, text: str) -> bool:
    assert quick is not None
    return image(quick) == image(qasm3.loads(text))


@pytest.fixture
def without_reference_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(text: str) -> None:
        pytest.fail(f"given to the reference parser: {text!r}")

    monkeypatch.setattr(openqasm3, "parse", parse)


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_program_makes_the_circuit_of_the_reference_importer(name: str) -> None:
    assert same(read_quickly(FLAT[name]), FLAT[name])


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_program_does_not_need_the_reference_parser(name: str, without_reference_parser: None) -> None:
    assert read_quickly(FLAT[name]) is not None


@pytest.mark.parametrize("name", MIXED)
def test_what_is_not_flat_is_parsed_by_the_reference_parser_where_it_stands(name: str) -> None:
    assert same(read_quickly(MIXED[name]), MIXED[name])


@pytest.mark.parametrize("seed", range(8))
def test_what_qiskit_exports_is_read_as_by_the_reference_importer(seed: int) -> None:
    circuit = random_circuit(4, 8, measure=True, conditional=seed % 2 == 1, seed=seed)
    device = GenericBackendV2(6, basis_gates=["ecr", "rz", "sx", "x", "id"], control_flow=True, seed=1)
    for exported in (circuit, transpile(circuit, device, optimization_level=1, seed_transpiler=1)):
        text = qasm3.dumps(exported)
        assert same(read_quickly(text), text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.integers(1, 10), st.booleans())
def test_a_program_made_at_random_is_read_as_by_the_reference_importer(random: Random, length: int, flat: bool) -> None:
    tally = Tally()
    check(program(random, length, flat=flat), tally)
    assert not tally.wrong


def test_no_change_to_a_program_makes_the_quick_importer_take_what_the_reference_importer_refuses() -> None:
    tally = run(seed=20261122, programs=60, mutants=25)
    assert tally.wrong == []
    assert tally.counts["the same"] > 200
    assert tally.counts["left to the reference importer"] > 200


@pytest.mark.parametrize(
    "text",
    [
        "h q[0]",  # no semicolon at the end
        "h(0.5) q[0];",  # the reference importer takes the argument for a label
        "rz q[0];",
        "rz(0.5, 0.5) q[0];",
        "cx q[0], q[0];",
        "cx q[0];",
        "h q[2];",
        "h r;",
        "hh q;",
        "cx q, p;",
        "rz(pi) q[0] q[1];",
        "rz(2pi) q[0];",
        "rz(1.5.2) q[0];",
        "rz(sin(1)) q[0];",
        "rz(1/0) q[0];",
        "rz(+1) q[0];",
        "rz(1 2) q[0];",
        "rz(5ns) q[0];",
        "delay[5 /**/ ns] q[0];",
        "delay[5\nns] q[0];",
        "delay[5] q[0];",
        "qubit[2] q;",
        "qubit h;",
        "bit measure;",
        "qubit pi;",
        "measure q;",
        "measure q -> q;",
        "c = measure c;",
        "@mine\nh q[0];",
        "pragma h q[0];",
        "h q[0]; /*",
        "h\x0cq[0];",
        "h\x0bq[0];",
        "h\u00a0q[0];",
        "h q[\u0661];",
        'include "stdgates.inc";',
        "OPENQASM 3.0;",
        "h $0;",
        "gate g p { measure p; } g q[0];",
        "gate g p { reset p; } g q[0];",
        "gate g p { h p } g q[0];",
        "gate g p { h q[0]; } g q[0];",
        "gate g p { h $0; } g q[0];",
        "gate g p, p { h p; } g q[0], q[1];",
        "gate x p { h p; }",
        "gate if p { h p; }",
        "gate g(a, a) p { rz(a) p; }",
        "gate g p { h p; };",
        "gate g { }",
        "}",
        "{",
        "else h q[0];",
        "end; h q[0];",
    ],
)
def test_what_the_reference_importer_refuses_or_understands_by_itself_alone_is_left_to_it(text: str) -> None:
    assert read_quickly(HEAD + "qubit[2] q;\nqubit[3] p;\nbit[2] c;\n" + text) is None


@pytest.mark.parametrize("text", ["", " \n", "//", "// a comment\n", "/* a comment */ "])
def test_a_text_of_nothing_is_no_program(text: str) -> None:
    assert read_quickly(text) is None
    with pytest.raises(Exception):  # noqa: B017, PT011 - the reference importer only says that it failed
        qasm3.loads(text)


@pytest.mark.parametrize(
    "head",
    ["OPENQASM /**/ 3.0;", "OPENQASM 3.0 // \n.1;", "OPENQASM3.0;", 'include /**/ "stdgates.inc";', "include 'x.inc';"],
)
def test_a_head_that_the_reference_parser_may_see_differently_is_left_to_it(head: str) -> None:
    assert read_quickly(head + "\nqubit q; U(0, 0, 0) q;") is None


@pytest.mark.parametrize(
    "text",
    [
        "/*" * LARGE,
        "(" * LARGE,
        ")" * LARGE,
        "x(" + ")" * LARGE + ";",
        "x " + "q[" * LARGE + ";",
        "x" + " \f" * LARGE + ";",
        "x" + " \n" * LARGE + "q!;",
        "rz(" + "-" * LARGE + "1) q;",
        "rz(" + "1" * LARGE + ") q;",
        "rz(" + "1" * LARGE + "x) q;",
        "rz(" + "1e" * LARGE + ") q;",
        "rz(" + "1+" * LARGE + "1) q;",
        "c = " * LARGE + "measure q;",
        "measure " + "> " * LARGE + ";",
        "measure" + " -" * LARGE + ";",
        "delay[" + "1" * LARGE + "] q;",
        "delay[1ns" + "]" * LARGE + ";",
        "qubit" + " " * LARGE + ";",
        "qubit[" + " " * LARGE + ";",
        "a" * LARGE,
        "a " * LARGE,
        "{" * LARGE,
        "{}" * LARGE,
        "@ " * LARGE,
        "cal" * LARGE,
        "barrier " + "q," * LARGE + ";",
        "/**/" * LARGE + "!",
    ],
)
def test_no_text_takes_the_quick_importer_more_than_a_moment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: str) -> None:
        raise ValueError("this test is about the quick importer alone")

    monkeypatch.setattr(openqasm3, "parse", parse)
    # The time limit of every test is the assertion: what is worse than linear takes hours.
    assert read_quickly(HEAD + "qubit[2] q; bit[2] c;" + text) is None


def test_every_word_of_the_grammar_that_names_nothing_is_known() -> None:
    words = {name.strip("'") for name in qasm3Lexer.literalNames}
    assert {word for word in words if word.isalpha()} <= openqasm3_syntax.KEYWORDS
