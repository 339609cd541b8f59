"""The command as a process: what it sends, what it prints, and its exit code."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qgateway.v1 import backend_pb2, backend_service_pb2, job_pb2, job_service_pb2, result_pb2, server_service_pb2

from tests.support.refusals import Behaviour, refusal, refuse
from tests.unit.cli.conftest import Command
from tests.unit.client_transport.fake_gateway import JOB, FakeGateway, blob, event, hang, heartbeat, stream

BELL = "OPENQASM 3.0;\nqubit[2] q;\nbit[2] c;\nc = measure q;\n"


def answer(message: Any) -> Behaviour:
    return lambda _request, _context: message


def make_job(status: str = "DONE", **fields: Any) -> job_pb2.Job:
    job = job_pb2.Job(name=JOB, status=job_pb2.JobStatus.Value(f"JOB_STATUS_{status}"), backend="device", **fields)
    job.create_time.FromJsonString("2026-01-02T03:04:05Z")
    return job


def counted() -> result_pb2.JobResult:
    experiment = result_pb2.ExperimentResult(circuit_name="bell", shots=100, success=True, counts={"00": 60, "11": 40})
    return result_pb2.JobResult(job=JOB, backend="device", success=True, experiments=[experiment])


def with_backends(fake: FakeGateway) -> None:
    status = backend_pb2.BackendStatus(operational=True, status_message="active", pending_jobs=3)
    device = backend_pb2.Backend(backend_id="device", account="local", num_qubits=27, status=status)
    simulator = backend_pb2.Backend(backend_id="sim", account="local", num_qubits=30, simulator=True, status=status)

    def pages(request: Any, _context: Any) -> Any:
        if request.page_token:
            return backend_service_pb2.ListBackendsResponse(backends=[simulator])
        return backend_service_pb2.ListBackendsResponse(backends=[device], next_page_token="next")

    fake.on("ListBackends", pages)


def with_run(fake: FakeGateway, final: str = "DONE") -> None:
    with_backends(fake)
    fake.on("SubmitJob", answer(job_service_pb2.SubmitJobResponse(job=make_job("QUEUED"))))
    fake.on("WatchJob", stream(event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 30, 2), event(2, final)))
    fake.on("GetJobResult", answer(job_service_pb2.GetJobResultResponse(result=counted())))


@pytest.fixture
def circuit(tmp_path: Path) -> str:
    (tmp_path / "bell.qasm").write_text(BELL)
    return str(tmp_path / "bell.qasm")


def test_backends_of_all_pages_are_listed(fake: FakeGateway, qgateway: Command) -> None:
    with_backends(fake)
    done = qgateway("backends")
    assert done.returncode == 0
    head, *rows = (line.split() for line in done.stdout.splitlines() if line.strip())
    assert head == ["NAME", "ACCOUNT", "QUBITS", "SIMULATOR", "STATUS", "PENDING"]
    assert rows == [["device", "local", "27", "no", "active", "3"], ["sim", "local", "30", "yes", "active", "3"]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "-", "--shots", str(2**63)), str(2**63)),
        (("run", "-", "--seed", str(2**70)), str(2**70)),
        (("run", "-", "--timeout", "-1"), "timeout"),
        (("backends", "--min-qubits", str(2**31)), str(2**31)),
        (("show", "\udcff"), "UTF-8"),
        (("tag", "abc", "a", "\udcff"), "UTF-8"),
    ],
)
def test_an_argument_that_no_request_can_hold_is_wrong_usage(
    qgateway: Command, arguments: tuple[str, ...], words: str
) -> None:
    done = qgateway(*arguments, input=BELL)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_name_is_given_and_taken_away(fake: FakeGateway, qgateway: Command) -> None:
    def rename(request: job_service_pb2.UpdateJobRequest, _context: Any) -> job_service_pb2.UpdateJobResponse:
        return job_service_pb2.UpdateJobResponse(job=make_job(display_name=request.job.display_name))

    fake.on("UpdateJob", rename)
    assert "is now named 'a bell'" in qgateway("rename", "abc", "a bell").stdout
    assert "has no name" in qgateway("rename", "abc", "").stdout


def test_accounts_that_cannot_be_asked_are_noted_beside_the_backends_of_the_others(
    fake: FakeGateway, qgateway: Command
) -> None:
    listed = backend_service_pb2.ListBackendsResponse(
        backends=[backend_pb2.Backend(backend_id="device")], unreachable=["accounts/lab"]
    )
    fake.on("ListBackends", answer(listed))
    done = qgateway("backends", "--json")
    assert [each["backend_id"] for each in json.loads(done.stdout)] == ["device"]
    assert "accounts/lab cannot be asked now" in done.stderr


@pytest.mark.parametrize("arguments", [("--json", "backends"), ("backends", "--json")])
def test_json_may_be_asked_for_before_and_after_the_command(
    fake: FakeGateway, qgateway: Command, arguments: tuple[str, ...]
) -> None:
    with_backends(fake)
    document = json.loads(qgateway(*arguments).stdout)
    assert [(each["backend_id"], each["simulator"]) for each in document] == [("device", False), ("sim", True)]


def test_the_target_may_be_given_before_and_after_the_command(fake: FakeGateway, qgateway: Command) -> None:
    with_backends(fake)
    for arguments in (("--target", fake.target, "backends"), ("backends", "--target", fake.target)):
        assert qgateway(*arguments, QGATEWAY_TARGET="127.0.0.1:1").returncode == 0


def test_a_backend_is_shown(fake: FakeGateway, qgateway: Command) -> None:
    found = backend_pb2.Backend(backend_id="device", num_qubits=27, basis_gates=["cz", "sx"], max_shots=100_000)
    fake.on("GetBackend", answer(backend_service_pb2.GetBackendResponse(backend=found)))
    done = qgateway("backend", "device")
    assert "cz, sx" in done.stdout
    assert fake.requests["GetBackend"][0].name == "backends/device"
    assert json.loads(qgateway("backend", "device", "--json").stdout)["max_shots"] == 100_000


def test_the_server_is_shown(fake: FakeGateway, qgateway: Command) -> None:
    info = server_service_pb2.ServerInfo(version="1.2.3", max_program_bytes=2**20)
    fake.on("GetServerInfo", answer(server_service_pb2.GetServerInfoResponse(info=info)))
    done = qgateway("server")
    assert "1.2.3" in done.stdout
    assert "1.0 MiB" in done.stdout


def test_run_waits_and_draws_a_histogram(fake: FakeGateway, qgateway: Command, circuit: str) -> None:
    with_run(fake)
    done = qgateway("run", circuit, "--shots", "100")
    assert done.returncode == 0
    assert "bell: 100 shots" in done.stdout
    assert "60.0%" in done.stdout
    assert "QUEUED" in done.stderr
    assert "position 2 in the queue" in done.stderr
    request = fake.requests["SubmitJob"][0]
    assert (request.backend, request.options.shots) == ("sim", 100)
    assert request.program.openqasm.circuits[0].source == BELL


def test_run_sends_what_its_options_say(fake: FakeGateway, qgateway: Command) -> None:
    with_run(fake)
    options = "--backend device --seed 7 --tag a --tag b --name bell --transpile 2 --param theta=0.5 --no-wait"
    done = qgateway("run", "-", *options.split(), input=BELL)
    assert done.stdout.strip() == "abc"
    request = fake.requests["SubmitJob"][0]
    assert (request.backend, list(request.tags), request.display_name) == ("device", ["a", "b"], "bell")
    assert (request.options.seed_simulator, request.options.transpile) == (7, job_pb2.TRANSPILE_LEVEL_2)
    assert not request.options.HasField("shots")
    assert dict(request.program.openqasm.circuits[0].bindings[0].values) == {"theta": 0.5}
    assert fake.requests["WatchJob"] == []


def test_run_prints_job_and_result_as_one_document(fake: FakeGateway, qgateway: Command, circuit: str) -> None:
    with_run(fake)
    document = json.loads(qgateway("run", circuit, "--json").stdout)
    assert (document["job"]["id"], document["job"]["status"]) == ("abc", "DONE")
    assert document["result"]["experiments"][0]["counts"] == {"00": 60, "11": 40}


@pytest.mark.parametrize("final", ["ERROR", "CANCELLED"])
def test_run_of_a_job_that_fails_exits_with_1(fake: FakeGateway, qgateway: Command, circuit: str, final: str) -> None:
    with_run(fake, final)
    done = qgateway("run", circuit)
    assert done.returncode == 1
    assert fake.requests["GetJobResult"] == []


def test_run_that_ends_before_the_job_says_how_to_go_on(fake: FakeGateway, qgateway: Command, circuit: str) -> None:
    with_run(fake)
    fake.on("WatchJob", stream(event(1, "QUEUED", "SNAPSHOT"), hang))
    done = qgateway("run", circuit, "--timeout", "0.5")
    assert done.returncode == 5
    assert "The job goes on" in done.stderr
    assert "qgateway watch abc" in done.stderr
    assert "qgateway cancel abc" in done.stderr


def test_run_uploads_what_is_too_large_for_a_message(fake: FakeGateway, qgateway: Command, tmp_path: Path) -> None:
    with_run(fake)
    (tmp_path / "large.qasm").write_text(BELL + "// " + "x" * 2**21)
    info = server_service_pb2.ServerInfo(max_request_bytes=2**20, chunk_size_bytes=2**19)
    fake.on("GetServerInfo", answer(server_service_pb2.GetServerInfoResponse(info=info)))
    fake.on("UploadProgram", answer(job_service_pb2.UploadProgramResponse(sha256=b"s" * 32)))
    assert qgateway("run", str(tmp_path / "large.qasm"), "--no-wait").returncode == 0
    assert fake.requests["SubmitJob"][0].program_sha256 == b"s" * 32
    assert sum(len(each.data) for each in fake.requests["UploadProgram"][0]) > 2**21


def test_jobs_are_listed_with_what_the_filters_say(fake: FakeGateway, qgateway: Command) -> None:
    jobs = [make_job(display_name="bell \x1b[31m", tags=["a", "b"]), make_job("RUNNING")]
    fake.on("ListJobs", answer(job_service_pb2.ListJobsResponse(jobs=jobs)))
    options = "--status running --status pending --backend device --tag a --tag b --name bell --since 2026-01-02"
    done = qgateway("jobs", *options.split())
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "2026-01-02 03:04:05" in done.stdout
    asked = fake.requests["ListJobs"][0].filter
    assert job_pb2.JOB_STATUS_RUNNING in asked.statuses
    assert job_pb2.JOB_STATUS_DONE not in asked.statuses
    assert (list(asked.backends), list(asked.all_tags), asked.display_name) == (["device"], ["a", "b"], "bell")
    assert asked.created_after.ToJsonString() == "2026-01-02T00:00:00Z"


def test_jobs_reads_pages_until_the_limit(fake: FakeGateway, qgateway: Command) -> None:
    page = job_service_pb2.ListJobsResponse(jobs=[make_job()] * 2, next_page_token="next")
    fake.on("ListJobs", answer(page))
    assert len(json.loads(qgateway("jobs", "--limit", "3", "--json").stdout)) == 3
    assert len(fake.requests["ListJobs"]) == 2


@pytest.mark.parametrize("job", ["abc", "jobs/abc"])
def test_a_job_is_named_with_or_without_its_collection(fake: FakeGateway, qgateway: Command, job: str) -> None:
    fake.on("GetJob", answer(job_service_pb2.GetJobResponse(job=make_job(display_name="bell"))))
    done = qgateway("show", job)
    assert "bell" in done.stdout
    assert "DONE" in done.stdout
    assert fake.requests["GetJob"][0].name == JOB
    assert json.loads(qgateway("show", job, "--json").stdout)["id"] == "abc"


def with_watch(fake: FakeGateway, *steps: Any) -> None:
    fake.on("GetJob", answer(job_service_pb2.GetJobResponse(job=make_job("QUEUED"))))
    fake.on("WatchJob", stream(*steps))


def test_watch_prints_a_line_for_each_change(fake: FakeGateway, qgateway: Command) -> None:
    with_watch(fake, event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 30, 2), event(2, "RUNNING"), event(3, "DONE"))
    done = qgateway("watch", "abc")
    assert done.returncode == 0
    lines = [line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()]
    assert lines == [["QUEUED"], ["QUEUED", "position 2 in the queue"], ["RUNNING"], ["DONE"]]


def test_watch_prints_json_lines(fake: FakeGateway, qgateway: Command) -> None:
    with_watch(fake, event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 30, 2), event(2, "ERROR"))
    done = qgateway("watch", "abc", "--json")
    assert done.returncode == 1
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first["event"]["type"], first["event"]["job"]["status"]) == ("SNAPSHOT", "QUEUED")
    assert second["queue"]["position"] == 2
    assert third["event"]["job"]["status"] == "ERROR"


def test_watch_is_live_on_a_terminal(fake: FakeGateway, environment: dict[str, str]) -> None:
    with_watch(fake, event(1, "QUEUED", "SNAPSHOT"), heartbeat("1", 30, 2), event(2, "DONE"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from qgateway.cli import main; main()", "watch", "abc"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm", "COLUMNS": "100"}
    ) as process:
        os.close(theirs)
        shown = bytearray()
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
        os.close(ours)
        assert process.wait(60) == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "DONE" in text.splitlines()[-1] + text.splitlines()[-2]


def test_watch_gives_up_at_its_timeout(fake: FakeGateway, qgateway: Command) -> None:
    with_watch(fake, event(1, "QUEUED", "SNAPSHOT"), hang)
    done = qgateway("watch", "abc", "--timeout", "0.5")
    assert done.returncode == 5
    assert "abc was not final after 0.5 s" in done.stderr


def test_ctrl_c_ends_a_watch_with_130(fake: FakeGateway, environment: dict[str, str]) -> None:
    with_watch(fake, event(1, "QUEUED", "SNAPSHOT"), hang)
    # A process inherits that SIGINT is ignored, as in a shell's background job; on a terminal it is not.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from qgateway.cli import main; main()"
    command = [sys.executable, "-c", program, "watch", "abc"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**environment, "PYTHONUNBUFFERED": "1"}, text=True
    ) as process:
        assert process.stdout is not None
        assert "QUEUED" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in errors


def with_changes(fake: FakeGateway) -> None:
    """Two jobs change while all are watched; the connection breaks between."""
    fake.on("GetServerInfo", answer(server_service_pb2.GetServerInfoResponse()))
    changes = []
    for revision, name in ((1, "a"), (2, "b")):
        job = job_pb2.Job(name=f"jobs/{name}", status=job_pb2.JOB_STATUS_DONE, revision=revision)
        change = job_pb2.JobEvent(revision=revision, type=job_pb2.JobEvent.TYPE_STATUS_CHANGED, job=job)
        changes.append(job_service_pb2.WatchJobsResponse(event=change, resume_token=str(revision)))
    cut = stream(changes[0], lambda context: refuse(context, "UNAVAILABLE", "cut"))
    fake.on("WatchJobs", [cut, stream(*changes, hang)])


def test_watch_without_a_job_follows_all_that_match(fake: FakeGateway, qgateway: Command) -> None:
    with_changes(fake)
    done = qgateway("watch", "--tag", "mine", "--status", "done", "--timeout", "3")
    assert done.returncode == 0
    lines = [line.split()[1:] for line in done.stdout.splitlines() if "no connection" not in line]
    assert lines == [["a", "DONE"], ["b", "DONE"]]
    request = fake.requests["WatchJobs"][0]
    assert request.filter == job_pb2.JobFilter(all_tags=["mine"], statuses=[job_pb2.JOB_STATUS_DONE])


def test_watch_of_all_jobs_prints_json_lines(fake: FakeGateway, qgateway: Command) -> None:
    with_changes(fake)
    done = qgateway("watch", "--timeout", "3", "--json")
    assert [json.loads(line)["event"]["job"]["id"] for line in done.stdout.splitlines()] == ["a", "b"]


def test_watch_takes_a_job_or_conditions_but_not_both(fake: FakeGateway, qgateway: Command) -> None:
    done = qgateway("watch", "abc", "--tag", "mine")
    assert done.returncode == 2
    assert "not both" in done.stderr
    assert fake.requests == {}


def test_watch_of_a_job_that_does_not_exist_ends_at_once(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("GetJob", refusal("NOT_FOUND", "There is no job 'abc'.", reason="JOB_NOT_FOUND"))
    done = qgateway("watch", "abc")
    assert done.returncode == 3
    assert "qgateway jobs" in done.stderr


def test_result_draws_a_histogram(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("GetJobResult", answer(job_service_pb2.GetJobResultResponse(result=counted())))
    done = qgateway("result", "abc")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines() if "%" in line] == ["00", "11"]
    request = fake.requests["GetJobResult"][0]
    assert (request.name, request.include_counts, request.omit_shots) == (JOB, True, True)


def large_result(fake: FakeGateway) -> bytes:
    """A result that does not fit into a message: 600 times 01, 400 times 10."""
    bits = result_pb2.PackedBits(data=bytes([1] * 600 + [2] * 400))
    register = result_pb2.RegisterResult(register_name="c", size=2, bits=bits)
    experiment = result_pb2.ExperimentResult(circuit_name="bell", shots=1000, success=True, registers=[register])
    data = result_pb2.JobResult(job=JOB, success=True, experiments=[experiment]).SerializeToString()
    fake.on("GetJobResult", refusal("OUT_OF_RANGE", reason="RESULT_TOO_LARGE"))
    fake.on("DownloadJobResult", [blob(data, chunk=100, cut_after=2), blob(data, chunk=100)])
    return data


def test_result_counts_by_itself_what_does_not_fit_into_a_message(fake: FakeGateway, qgateway: Command) -> None:
    large_result(fake)
    done = qgateway("result", "abc", "--json")
    assert json.loads(done.stdout)["experiments"][0]["counts"] == {"01": 600, "10": 400}


def test_result_writes_the_whole_result_to_a_file(fake: FakeGateway, qgateway: Command, tmp_path: Path) -> None:
    data = large_result(fake)
    assert qgateway("result", "abc", "--output", str(tmp_path / "result.pb")).returncode == 0
    assert (tmp_path / "result.pb").read_bytes() == data
    assert qgateway("result", "abc", "-o", str(tmp_path / "result.json")).returncode == 0
    assert json.loads((tmp_path / "result.json").read_text())["job"] == JOB
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "result.pb"]


def test_result_writes_into_a_pipe_and_through_a_link(fake: FakeGateway, qgateway: Command, tmp_path: Path) -> None:
    data = large_result(fake)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert qgateway("result", "abc", "--output", str(tmp_path / "pipe")).returncode == 0
        assert os.read(reader, len(data) + 1) == data
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    fake.on("DownloadJobResult", blob(data))
    assert qgateway("result", "abc", "--output", str(tmp_path / "link")).returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == data


def test_a_damaged_result_leaves_no_file(fake: FakeGateway, qgateway: Command, tmp_path: Path) -> None:
    fake.on("DownloadJobResult", blob(b"data", sha256=hashlib.sha256(b"other").digest()))
    done = qgateway("result", "abc", "--output", str(tmp_path / "result.pb"))
    assert done.returncode == 5
    assert "SHA-256" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_result_of_a_failed_job_exits_with_1(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("GetJobResult", refusal("FAILED_PRECONDITION", "The job failed.", reason="RESULT_ABSENT"))
    assert qgateway("result", "abc").returncode == 1


def test_cancel_says_what_happened(fake: FakeGateway, qgateway: Command) -> None:
    responses = [job_service_pb2.CancelJobResponse(job=make_job(status)) for status in ("CANCELLED", "RUNNING")]
    fake.on("CancelJob", [answer(response) for response in responses])
    assert qgateway("cancel", "abc").stdout.strip() == "Job abc is cancelled."
    assert "still RUNNING" in qgateway("cancel", "abc").stdout


def test_cancel_of_a_job_that_has_ended_is_refused(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("CancelJob", refusal("FAILED_PRECONDITION", "The job is done.", reason="JOB_FINAL"))
    assert qgateway("cancel", "abc").returncode == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("c", "d", "c"), ["c", "d"]),
        (("--add", "b", "c"), ["a", "b", "c"]),
        (("--remove", "b", "x"), ["a"]),
        (("--clear",), []),
    ],
)
def test_tags_are_replaced_added_removed_or_cleared(
    fake: FakeGateway, qgateway: Command, arguments: tuple[str, ...], expected: list[str]
) -> None:
    fake.on("GetJob", answer(job_service_pb2.GetJobResponse(job=make_job(tags=["a", "b"], etag="e1"))))
    fake.on("UpdateJob", lambda request, _context: job_service_pb2.UpdateJobResponse(job=request.job))
    assert qgateway("tag", "abc", *arguments).returncode == 0
    request = fake.requests["UpdateJob"][0]
    assert (list(request.job.tags), request.etag, list(request.update_mask.paths)) == (expected, "e1", ["tags"])


def test_tags_are_worked_out_anew_when_somebody_else_was_faster(fake: FakeGateway, qgateway: Command) -> None:
    jobs = [make_job(tags=["a"], etag="e1"), make_job(tags=["z"], etag="e2")]
    fake.on("GetJob", [answer(job_service_pb2.GetJobResponse(job=job)) for job in jobs])
    update = lambda request, _context: job_service_pb2.UpdateJobResponse(job=request.job)  # noqa: E731
    fake.on("UpdateJob", [refusal("ABORTED", reason="ETAG_MISMATCH"), update])
    assert qgateway("tag", "abc", "b", "--add").stdout.strip() == "Tags of job abc: z, b"


@pytest.mark.parametrize("arguments", [(), ("a", "--clear"), ("a", "--add", "--remove")])
def test_tag_without_a_clear_wish_is_wrong_usage(qgateway: Command, arguments: tuple[str, ...]) -> None:
    assert qgateway("tag", "abc", *arguments).returncode == 2


def test_rename_changes_only_the_name(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("UpdateJob", lambda request, _context: job_service_pb2.UpdateJobResponse(job=request.job))
    assert qgateway("rename", "abc", "ghz 12").returncode == 0
    request = fake.requests["UpdateJob"][0]
    assert (request.job.display_name, list(request.update_mask.paths)) == ("ghz 12", ["display_name"])


def test_delete_without_a_terminal_does_not_ask(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("DeleteJob", answer(job_service_pb2.DeleteJobResponse()))
    assert qgateway("delete", "jobs/abc").stdout.strip() == "Job abc is deleted."
    assert fake.requests["DeleteJob"][0].name == JOB


def test_where_no_gateway_runs_the_exit_code_is_5_and_the_address_is_named(qgateway: Command) -> None:
    done = qgateway("jobs", "--target", "127.0.0.1:1")
    assert done.returncode == 5
    assert "is the gateway running at 127.0.0.1:1?" in done.stderr
    assert done.stdout == ""


def test_a_refused_key_exits_with_4_and_says_what_to_set(fake: FakeGateway, qgateway: Command) -> None:
    fake.on("ListJobs", refusal("UNAUTHENTICATED", "The key is not known.", reason="API_KEY_INVALID"))
    done = qgateway("jobs")
    assert done.returncode == 4
    assert "QGATEWAY_API_KEY" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "--status", "odd"),
        ("jobs", "--limit", "0"),
        ("jobs", "--target", "nowhere"),
        ("run", "/does/not/exist.qasm"),
        ("nonsense",),
    ],
)
def test_wrong_usage_exits_with_2(qgateway: Command, arguments: tuple[str, ...]) -> None:
    done = qgateway(*arguments)
    assert done.returncode == 2
    assert done.stderr


def test_help_tells_the_exit_codes(qgateway: Command) -> None:
    done = qgateway("--help")
    assert "Exit codes" in done.stdout
    assert qgateway("jobs", "--help").returncode == 0


def test_a_reader_that_leaves_early_is_no_trouble(fake: FakeGateway, environment: dict[str, str]) -> None:
    jobs = [make_job(display_name="x" * 200)] * 2000
    fake.on("ListJobs", answer(job_service_pb2.ListJobsResponse(jobs=jobs)))
    script = f"{sys.executable} -c 'from qgateway.cli import main; main()' jobs --limit 2000 | head -n 1"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_the_command_loads_neither_grpc_nor_qiskit_before_it_calls() -> None:
    code = "import sys, qgateway.cli.app;print([name for name in ('grpc', 'qiskit', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
