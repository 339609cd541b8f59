"""A backend: what it tells, and what `run` sends."""

from __future__ import annotations

import copy
import hashlib
import inspect
import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from qgateway import (
    GatewayBackend,
    GatewayProvider,
    IBMBackendApiError,
    IBMBackendError,
    IBMBackendJobLimitError,
    IBMBackendValueError,
    IBMNotAuthorizedError,
)
from qgateway.v1 import backend_pb2, backend_service_pb2, job_pb2, job_service_pb2, program_pb2, server_service_pb2
from qiskit import QuantumCircuit
from qiskit.providers import BackendV2, JobStatus

from tests.support.refusals import refusal, refuse
from tests.unit.client.scripted_gateway import JOB, JOB_ID, ScriptedGateway

QASM = "OPENQASM 3.0; bit c; qubit q; c = measure q;"


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def submitted(scripted: ScriptedGateway) -> job_service_pb2.SubmitJobRequest:
    request: job_service_pb2.SubmitJobRequest = scripted.requests["SubmitJob"][-1]
    return request


def test_run_has_the_parameters_of_the_original() -> None:
    parameters = list(inspect.signature(GatewayBackend.run).parameters.values())[1:]
    original = [
        "circuits", "dynamic", "job_tags", "init_circuit", "init_num_resets", "header", "shots", "memory", "meas_level",
        "meas_return", "rep_delay", "init_qubits", "use_measure_esp", "noise_model", "seed_simulator",
    ]  # fmt: skip
    assert [each.name for each in parameters[:15]] == original
    assert all(each.default is None for each in parameters[1:15])
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters[15:-1])
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD


def test_run_sends_everything_in_one_request(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    scripted.calls.clear()
    job = backend.run(
        bell(), job_tags=["b", "a", "b"], header={"k": 1}, shots=np.int64(100), memory=True, seed_simulator=7,
        job_name="mine", transpile=2,
    )  # fmt: skip
    assert scripted.calls == ["GetServerInfo", "SubmitJob"]
    request = submitted(scripted)
    assert (request.backend, request.account, request.display_name) == ("machine", "local", "mine")
    assert list(request.tags) == ["b", "a"]
    assert (request.options.shots, request.options.memory, request.options.seed_simulator) == (100, True, 7)
    assert request.options.transpile == job_pb2.TRANSPILE_LEVEL_2
    assert set(request.client_version) == {"qgateway", "qiskit"}
    assert uuid.UUID(request.request_id).version == 4
    assert job.backend() is backend
    backend.run(bell())
    assert scripted.count("GetServerInfo") == 1


def test_a_fresh_job_knows_its_tags_name_date_and_status(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    job = backend.run(bell(), job_tags=["a"], job_name="mine", header={"k": 1}, shots=9)
    scripted.calls.clear()
    assert (job.job_id(), job.tags(), job.name(), job.header()) == (JOB_ID, ["a"], "mine", {"k": 1})
    assert job.backend_options()["shots"] == 9
    assert set(job.client_version) == {"qgateway", "qiskit"}
    assert abs(datetime.now(UTC) - job.creation_date()) < timedelta(minutes=1)
    assert scripted.calls == []
    assert job.status() is JobStatus.QUEUED


def test_circuits_come_back_as_they_were_sent(backend: GatewayBackend) -> None:
    circuits = [bell(), bell()]
    assert backend.run(tuple(circuits)).circuits() == circuits
    assert backend.run(QASM).circuits() == [QASM]


def test_every_run_has_a_request_id_of_its_own_unless_one_is_given(
    backend: GatewayBackend, scripted: ScriptedGateway
) -> None:
    for _ in range(2):
        backend.run(QASM)
    backend.run(QASM, request_id="mine")
    first, second, third = (request.request_id for request in scripted.requests["SubmitJob"])
    assert first != second
    assert third == "mine"


def test_a_lost_answer_is_asked_for_again_under_the_same_request_id(
    backend: GatewayBackend, scripted: ScriptedGateway
) -> None:
    def answer(_: Any, context: Any) -> job_service_pb2.SubmitJobResponse:
        if scripted.count("SubmitJob") == 1:
            refuse(context, "UNAVAILABLE", "restarting")
        return job_service_pb2.SubmitJobResponse(job=job_pb2.Job(name=JOB))

    scripted.on("SubmitJob", answer)
    assert backend.run(QASM).job_id() == JOB_ID
    first, second = scripted.requests["SubmitJob"]
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 0}, "shots"),
        ({"shots": 100_001}, "shots"),
        ({"job_tags": {"a"}}, "job_tags"),
        ({"job_tags": ""}, "job_tags"),
        ({"job_tags": ["a", 1]}, "job_tags"),
        ({"job_name": 3}, "job_name"),
        ({"request_id": 3}, "request_id"),
        ({"header": {"a": object()}}, r"header\.a"),
        ({"circuits": []}, "circuits"),
        ({"circuits": [bell()] * 21}, "takes 20"),
        ({"circuits": QuantumCircuit(4)}, "has 4 qubits"),
        ({"use_measure_esp": True}, "use_measure_esp"),
    ],
)
def test_a_wrong_argument_sends_nothing(
    backend: GatewayBackend, scripted: ScriptedGateway, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(IBMBackendValueError, match=message):
        backend.run(**{"circuits": bell(), **arguments})
    assert scripted.count("SubmitJob") == 0


def test_options_of_the_backend_are_used_and_belong_to_one_object(
    provider: GatewayProvider, backend: GatewayBackend, scripted: ScriptedGateway
) -> None:
    backend.set_options(shots=55, memory=True)
    backend.run(QASM)
    assert (submitted(scripted).options.shots, submitted(scripted).options.memory) == (55, True)
    backend.run(QASM, shots=66)
    assert submitted(scripted).options.shots == 66
    other = provider.get_backend("machine")
    assert other.options.shots == 4000
    assert backend.options.shots == 55


@pytest.mark.parametrize(
    ("name", "value"), [("shots", 0), ("shots", 100_001), ("meas_level", 3), ("meas_return", "all"), ("rep_delay", 9.0)]
)
def test_options_are_validated_when_they_are_set(
    scripted: ScriptedGateway, provider: GatewayProvider, name: str, value: Any
) -> None:
    scripted.backend.min_rep_delay.FromMilliseconds(0)
    scripted.backend.max_rep_delay.FromMilliseconds(500)
    backend = provider.get_backend("machine")
    with pytest.raises(ValueError, match=name):
        backend.set_options(**{name: value})
    with pytest.raises(AttributeError):
        backend.set_options(colour="blue")


def test_an_unknown_argument_warns_at_the_callers_line(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    with pytest.warns(UserWarning, match="'flavour'") as caught:
        backend.run(QASM, flavour="blue")
    assert caught[0].filename == __file__
    assert submitted(scripted).options.provider_options["flavour"] == "blue"


def test_control_flow_with_dynamic_false_warns_at_the_callers_line(backend: GatewayBackend) -> None:
    circuit = QuantumCircuit(1, 1)
    with circuit.if_test((circuit.clbits[0], True)):
        circuit.x(0)
    with pytest.warns(UserWarning, match="dynamic=False") as caught:
        backend.run(circuit, dynamic=False)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("INVALID_ARGUMENT", "INVALID_PROGRAM", IBMBackendValueError),
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", IBMBackendJobLimitError),
        ("NOT_FOUND", "BACKEND_NOT_FOUND", IBMBackendError),
        ("UNAUTHENTICATED", "API_KEY_INVALID", IBMNotAuthorizedError),
        ("INTERNAL", "INTERNAL", IBMBackendApiError),
    ],
)
def test_a_refused_submission_raises_the_exception_of_the_original(
    backend: GatewayBackend, scripted: ScriptedGateway, code: str, reason: str, kind: type[Exception]
) -> None:
    scripted.on("SubmitJob", refusal(code, "line 3: no such gate", reason=reason))
    with pytest.raises(kind, match="Error submitting job: line 3: no such gate"):
        backend.run(QASM)


def test_a_program_that_is_too_large_for_a_message_is_uploaded_first(
    backend: GatewayBackend, scripted: ScriptedGateway
) -> None:
    info = server_service_pb2.ServerInfo(max_request_bytes=2000, chunk_size_bytes=500)
    scripted.on("GetServerInfo", lambda *_: server_service_pb2.GetServerInfoResponse(info=info))

    def upload(requests: list[job_service_pb2.UploadProgramRequest], _: Any) -> job_service_pb2.UploadProgramResponse:
        assert all(len(request.data) <= 500 for request in requests)
        uploaded.extend(b"".join(request.data for request in requests))
        return job_service_pb2.UploadProgramResponse(sha256=hashlib.sha256(uploaded).digest())

    uploaded = bytearray()
    scripted.on("UploadProgram", upload)
    source = QASM + "\n// " + "x" * 5000
    backend.run(source)
    assert program_pb2.Program.FromString(bytes(uploaded)).openqasm.circuits[0].source == source
    assert submitted(scripted).WhichOneof("source") == "program_sha256"
    assert submitted(scripted).program_sha256 == hashlib.sha256(uploaded).digest()


def test_the_backend_is_a_backend_of_qiskit(backend: GatewayBackend) -> None:
    assert isinstance(backend, BackendV2)
    assert (backend.name, backend.num_qubits, backend.max_circuits, backend.account) == ("machine", 3, 20, "local")
    assert repr(backend) == "<GatewayBackend('machine')>"
    assert {"h", "cx", "if_else"} <= set(backend.operation_names)
    assert backend.target is backend.target
    assert backend.coupling_map is None or len(backend.coupling_map.get_edges()) == 0


def test_the_target_is_read_at_first_use(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    backend = provider.backends()[0]
    scripted.backend.instructions.add(instruction_name="x", num_qubits=1)
    scripted.calls.clear()
    assert "x" in backend.target
    assert "x" in backend.target
    assert scripted.calls == ["GetBackend"]
    assert scripted.requests["GetBackend"][-1].view == backend_pb2.BACKEND_VIEW_FULL


def test_status_is_asked_for_anew(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    assert backend.status().pending_jobs == 2
    scripted.backend.status.pending_jobs = 5
    assert backend.status().pending_jobs == 5
    assert backend.configuration().n_qubits == 3


def test_properties_are_cached_and_can_be_dated(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    measured = backend_pb2.Measurement(parameter="T1", unit="us", value=100)
    properties = backend_pb2.BackendProperties(qubits=[backend_pb2.QubitCalibration(parameters=[measured])])
    scripted.on(
        "GetBackendProperties", lambda *_: backend_service_pb2.GetBackendPropertiesResponse(properties=properties)
    )
    first = backend.properties()
    assert first is not None
    assert first.t1(0) == pytest.approx(1e-4)
    assert backend.properties() is first
    assert backend.properties(refresh=True) is not first
    moment = datetime(2024, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    backend.properties(datetime=moment)
    assert scripted.requests["GetBackendProperties"][-1].at_time.ToDatetime(tzinfo=UTC) == moment
    assert scripted.count("GetBackendProperties") == 3


def test_a_simulator_has_no_properties(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    scripted.on("GetBackendProperties", lambda *_: backend_service_pb2.GetBackendPropertiesResponse())
    assert backend.properties() is None
    assert backend.properties() is None
    assert scripted.count("GetBackendProperties") == 1


def test_errors_of_calls_become_those_of_the_original(backend: GatewayBackend, scripted: ScriptedGateway) -> None:
    for method in ("GetBackend", "GetBackendProperties"):
        scripted.on(method, refusal("INTERNAL", "no"))
    for call in (backend.status, backend.properties):
        with pytest.raises(IBMBackendApiError, match="no"):
            call()


def test_a_backend_can_be_copied_and_pickled(backend: GatewayBackend) -> None:
    backend.set_options(shots=7)
    for twin in (copy.deepcopy(backend), pickle.loads(pickle.dumps(backend)), copy.copy(backend)):  # noqa: S301 - our own
        assert twin.name == "machine"
        assert twin.options.shots == 7
        assert twin.run(QASM).job_id() == JOB_ID
    copy.deepcopy(backend).set_options(shots=8)
    assert backend.options.shots == 7
    assert b"canary" not in pickle.dumps(backend)
