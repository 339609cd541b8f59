"""The parts of the command that need no gateway."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import json_format, struct_pb2
from qgateway.cli.counts import add_counts, count_shots
from qgateway.cli.exits import CommandError, ExitCode, exit_code_of
from qgateway.cli.histogram import bars
from qgateway.cli.jobs import parse_since
from qgateway.cli.output import elapsed_text, safe, size_text
from qgateway.cli.plain import plain
from qgateway.cli.submit import make_program, parse_parameters
from qgateway.v1 import backend_pb2, job_pb2, job_service_pb2, result_pb2
from rich.console import Console


def register(name: str, size: int, values: list[int]) -> result_pb2.RegisterResult:
    width = (size + 7) // 8
    data = b"".join(value.to_bytes(width) for value in values)
    return result_pb2.RegisterResult(register_name=name, size=size, bits=result_pb2.PackedBits(data=data))


def test_shots_are_counted_with_the_last_register_first() -> None:
    registers = [register("a", 2, [0b01, 0b01, 0b11]), register("b", 9, [0b1_0000_0000, 0b1_0000_0000, 0])]
    assert count_shots(registers, 3) == {"100000000 01": 2, "000000000 11": 1}


def test_a_register_without_bits_counts_for_nothing() -> None:
    points = result_pb2.RegisterResult(register_name="m", size=1, iq=result_pb2.IqPoints(data=b"\0" * 16))
    assert count_shots([points, register("empty", 0, [])], 1) == {}
    assert count_shots([points, register("a", 1, [1])], 1) == {"1": 1}


def test_counts_are_filled_into_each_experiment() -> None:
    result = result_pb2.JobResult(
        experiments=[result_pb2.ExperimentResult(shots=2, registers=[register("c", 1, [0, 1])]) for _ in range(2)]
    )
    add_counts(result)
    assert [dict(experiment.counts) for experiment in result.experiments] == [{"0": 1, "1": 1}] * 2


def drawn(counts: dict[str, int], most: int = 16, encoding: str = "utf-8") -> list[str]:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    return [line.plain for line in bars(counts, console, most)]


def test_a_histogram_shows_the_most_frequent_first_with_its_share() -> None:
    lines = drawn({"00": 250, "11": 750})
    assert [line.split()[0] for line in lines] == ["11", "00"]
    assert lines[0].endswith("750   75.0%")
    assert lines[0].count("█") > 2 * lines[1].count("█")


def test_a_histogram_sums_up_what_it_does_not_show() -> None:
    lines = drawn({f"{value:04b}": 1 for value in range(16)}, most=2)
    assert len(lines) == 3
    assert lines[2] == "14 other outcomes (14 of 16 shots, 87.5%)"
    assert drawn({"0": 3, "1": 1}, most=1)[1] == "1 other outcome (1 of 4 shots, 25.0%)"


def test_a_histogram_needs_no_block_characters() -> None:
    assert all(line.isascii() for line in drawn({"0": 1, "1": 2}, encoding="ascii"))


def test_no_counts_draw_nothing() -> None:
    assert drawn({}) == []


def test_messages_become_plain_data() -> None:
    job = job_pb2.Job(name="jobs/abc", status=job_pb2.JOB_STATUS_DONE, tags=["a"], revision=2**40)
    job.create_time.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    job.usage.charged_qpu_time.FromMilliseconds(1500)
    job.result.sha256 = b"\xab\xcd"
    job.options.shots = 10
    json_format.ParseDict({"a": {"b": [1, None]}}, job.options.header)
    job.client_version["qgateway"] = "1"
    data = plain(job)
    assert data["name"] == "jobs/abc"
    assert data["status"] == "DONE"
    assert data["tags"] == ["a"]
    assert data["revision"] == 2**40
    assert data["create_time"] == "2026-01-02T03:04:05+00:00"
    assert data["end_time"] is None
    assert data["usage"] == {"estimated_qpu_time": None, "charged_qpu_time": 1.5}
    assert data["result"]["sha256"] == "abcd"
    assert data["options"]["shots"] == 10
    assert data["options"]["memory"] is None
    assert data["options"]["meas_level"] == "UNSPECIFIED"
    assert data["options"]["header"] == {"a": {"b": [1.0, None]}}
    assert data["client_version"] == {"qgateway": "1"}


def test_every_field_is_there_even_where_nothing_is_set() -> None:
    data = plain(backend_pb2.Backend())
    assert (data["simulator"], data["num_qubits"], data["basis_gates"], data["status"]) == (False, 0, [], None)


def test_of_a_choice_only_what_was_chosen_is_shown() -> None:
    response = job_service_pb2.WatchJobResponse(heartbeat=job_service_pb2.WatchHeartbeat())
    assert set(plain(response)) == {"heartbeat", "resume_token", "result"}


def test_an_enum_value_of_a_newer_server_is_its_number() -> None:
    assert plain(job_pb2.Job(status=99))["status"] == 99  # type: ignore[arg-type]


def test_a_struct_is_a_dictionary() -> None:
    assert plain(struct_pb2.Struct()) == {}


@pytest.mark.parametrize(("text", "back"), [("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1w", 604_800)])
def test_since_takes_a_length_of_time(text: str, back: int) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=back)
    assert abs((parse_since(text) - moment).total_seconds()) < 60


def test_since_takes_a_date() -> None:
    assert parse_since("2026-01-02T03:04:05+01:00") == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "2x", "-1h"])
def test_since_refuses_what_it_does_not_understand(text: str) -> None:
    with pytest.raises(CommandError, match="--since"):
        parse_since(text)


@pytest.mark.parametrize("text", ["99999999w", "999999999999999999d", "9999-12-31T23:59:59-10:00"])
def test_since_refuses_what_is_outside_of_the_calendar(text: str) -> None:
    with pytest.raises(CommandError, match="calendar"):
        parse_since(text)


def test_parameters_are_numbers_by_name() -> None:
    assert parse_parameters(["theta=0.5", "v[0]=-1e-3"]) == {"theta": 0.5, "v[0]": -0.001}


@pytest.mark.parametrize("texts", [["theta"], ["=1"], ["theta=x"], ["theta=1", "theta=2"]])
def test_a_parameter_that_is_no_number_or_given_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(CommandError, match="--param '"):
        parse_parameters(texts)


def test_text_becomes_an_openqasm_program() -> None:
    program = make_program(b"OPENQASM 3.0;\n", {"theta": 0.5}, "bell")
    (circuit,) = program.openqasm.circuits
    assert (circuit.source, circuit.circuit_name) == ("OPENQASM 3.0;\n", "bell")
    assert [dict(binding.values) for binding in circuit.bindings] == [{"theta": 0.5}]


def test_qpy_is_told_by_its_content_and_each_circuit_is_bound() -> None:
    data = struct.pack("!6sBBBBQ", b"QISKIT", 13, 2, 0, 0, 2) + b"rest"
    program = make_program(data, {"theta": 0.5}, "")
    assert program.qpy.data == data
    assert [each.circuit_index for each in program.qpy.circuit_bindings] == [0, 1]
    assert not make_program(data, {}, "").qpy.circuit_bindings


@pytest.mark.parametrize("data", [b"", b" \n", b"\xff\xfe\x00", b"QISKIT\x0d", b"QISKIT" + bytes([255] * 300)])
def test_a_file_that_is_neither_is_refused(data: bytes) -> None:
    with pytest.raises(CommandError):
        make_program(data, {}, "")


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        ("NOT_FOUND", "JOB_NOT_FOUND", ExitCode.NOT_FOUND),
        ("INVALID_ARGUMENT", "INVALID_FIELD", ExitCode.REFUSED),
        ("UNAUTHENTICATED", "API_KEY_INVALID", ExitCode.REFUSED),
        ("PERMISSION_DENIED", "ROLE_MISSING", ExitCode.REFUSED),
        ("FAILED_PRECONDITION", "JOB_FINAL", ExitCode.REFUSED),
        ("FAILED_PRECONDITION", "RESULT_ABSENT", ExitCode.JOB_FAILED),
        ("UNAVAILABLE", "", ExitCode.UNAVAILABLE),
        ("DEADLINE_EXCEEDED", "", ExitCode.UNAVAILABLE),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", ExitCode.UNAVAILABLE),
    ],
)
def test_errors_have_exit_codes(status: str, reason: str, code: ExitCode) -> None:
    assert exit_code_of(status, reason) == code


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert safe("a\x1b[31mb\rc\u202e") == "a\ufffd[31mb\ufffdc\ufffd"


def test_sizes_and_times_are_for_people() -> None:
    assert [size_text(size) for size in (10, 2048, 3 * 2**20, 2**31)] == ["10 bytes", "2.0 KiB", "3.0 MiB", "2.0 GiB"]
    assert [elapsed_text(seconds) for seconds in (-1, 5, 65, 3_725)] == ["0:00", "0:05", "1:05", "1:02:05"]


@pytest.mark.parametrize(
    ("command", "loading"), [("gateway.cli", "gateway.config"), ("qgateway.cli", "qgateway.cli.app")]
)
def test_ctrl_c_while_a_command_is_still_loading_shows_no_traceback(command: str, loading: str) -> None:
    program = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "{loading}":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from {command} import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "")
