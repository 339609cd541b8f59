"""The provider: backends, listings, and what stands in for stored accounts."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from qgateway import (
    GatewayProvider,
    IBMAccountError,
    IBMApiError,
    IBMBackendApiError,
    IBMBackendValueError,
    IBMError,
    IBMJobNotFoundError,
    IBMNotAuthorizedError,
    least_busy,
)
from qgateway.v1 import account_pb2, account_service_pb2, backend_pb2, backend_service_pb2, job_pb2, job_service_pb2
from qiskit.providers import JobStatus, QiskitBackendNotFoundError

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB, JOB_ID, ScriptedGateway

PENDING = ["INITIALIZING", "QUEUED", "VALIDATING", "RUNNING"]
COMPLETED = ["CANCELLED", "DONE", "ERROR"]


def list_request(scripted: ScriptedGateway) -> job_service_pb2.ListJobsRequest:
    request: job_service_pb2.ListJobsRequest = scripted.requests["ListJobs"][-1]
    return request


def statuses(scripted: ScriptedGateway) -> set[str]:
    return {job_pb2.JobStatus.Name(each).removeprefix("JOB_STATUS_") for each in list_request(scripted).filter.statuses}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, []),
        ("pending", PENDING),
        ("completed", COMPLETED),
        ("DONE", ["DONE"]),
        ("done", ["DONE"]),
        (JobStatus.QUEUED, ["QUEUED"]),
        ([JobStatus.QUEUED, "cancelled"], ["QUEUED", "CANCELLED"]),
        (["pending", "DONE"], [*PENDING, "DONE"]),
        (("ERROR",), ["ERROR"]),
    ],
)
def test_jobs_in_some_statuses_are_asked_for(
    provider: GatewayProvider, scripted: ScriptedGateway, given: Any, wanted: list[str]
) -> None:
    provider.jobs(status=given)
    assert statuses(scripted) == set(wanted)


@pytest.mark.parametrize("status", ["finished", "", 3, ["DONE", "finished"], [], [None]])
def test_an_unknown_status_is_refused(provider: GatewayProvider, scripted: ScriptedGateway, status: Any) -> None:
    with pytest.raises(IBMBackendValueError, match="status"):
        provider.jobs(status=status)
    assert scripted.count("ListJobs") == 0


def test_every_filter_is_sent_to_the_gateway(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    provider.jobs(
        skip=5,
        backend_name="machine",
        job_tags=["b", "a"],
        descending=False,
        instance="acme",
        name="n",
        session_id="s1",
    )
    request = list_request(scripted)
    assert (request.skip, request.oldest_first) == (5, True)
    assert list(request.filter.backends) == ["machine"]
    assert list(request.filter.all_tags) == ["b", "a"]
    assert list(request.filter.accounts) == ["acme"]
    assert (request.filter.display_name, request.filter.session) == ("n", "sessions/s1")


def test_dates_without_a_zone_are_local_and_offsets_are_honoured(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    naive = datetime(2024, 1, 2, 3, 4)  # noqa: DTZ001 - that is the point
    with_offset = datetime(2024, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5)))
    provider.jobs(start_datetime=naive, end_datetime=with_offset)
    sent = list_request(scripted).filter
    assert sent.created_after.ToDatetime(tzinfo=UTC) == naive.astimezone()
    assert sent.created_before.ToDatetime(tzinfo=UTC) == with_offset
    provider.jobs(start_datetime="2024-01-02T03:04:00+05:00")
    assert list_request(scripted).filter.created_after.ToDatetime(tzinfo=UTC) == with_offset
    with pytest.raises(TypeError):
        provider.jobs(start_datetime=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("tags", [{"a"}, ("a",), "a", "", {}, [1], [["a"]], ()])
def test_tags_must_be_a_list_of_texts(provider: GatewayProvider, tags: Any) -> None:
    with pytest.raises(IBMBackendValueError, match="job_tags needs to be a list of strings"):
        provider.jobs(job_tags=tags)


def serve_pages(scripted: ScriptedGateway, total: int, page: int) -> None:
    """Let the gateway list jobs in pages."""

    def answer(request: job_service_pb2.ListJobsRequest, _: Any) -> job_service_pb2.ListJobsResponse:
        begin = int(request.page_token or request.skip)
        end = min(begin + page, total)
        records = [job_pb2.Job(name=f"jobs/{index}") for index in range(begin, end)]
        return job_service_pb2.ListJobsResponse(jobs=records, next_page_token=str(end) if end < total else "")

    scripted.on("ListJobs", answer)


@pytest.mark.parametrize("limit", [None, 0, 1, 7, 10, 11, 25, 26, 100])
@pytest.mark.parametrize("skip", [0, 5, 24, 40])
def test_pages_are_put_together_without_gap_or_duplicate(
    provider: GatewayProvider, scripted: ScriptedGateway, limit: int | None, skip: int
) -> None:
    serve_pages(scripted, total=26, page=10)
    found = [int(job.job_id()) for job in provider.jobs(limit=limit, skip=skip)]
    everything = list(range(26))[skip:]
    assert found == (everything[:limit] if limit else everything)


def test_later_pages_are_asked_for_with_the_same_conditions(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    serve_pages(scripted, total=26, page=10)
    provider.jobs(limit=None, skip=3, job_tags=["a"])
    first, *later = scripted.requests["ListJobs"]
    for request in later:
        assert request.page_token
        request.page_token = ""
        assert request == first


def test_no_more_pages_are_read_than_needed(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    serve_pages(scripted, total=1000, page=10)
    assert len(provider.jobs(limit=10)) == 10
    assert scripted.count("ListJobs") == 1


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"skip": -1}])
def test_negative_numbers_are_refused(provider: GatewayProvider, wrong: dict[str, int]) -> None:
    with pytest.raises(IBMBackendValueError, match="is negative"):
        provider.jobs(**wrong)  # type: ignore[arg-type]


def test_there_are_no_legacy_jobs(provider: GatewayProvider) -> None:
    assert provider.jobs(legacy=True) == []


def test_a_record_with_an_unknown_status_does_not_break_a_listing(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    records = [job_pb2.Job(name="jobs/a", status=99), job_pb2.Job(name="jobs/b")]  # type: ignore[arg-type]
    scripted.on("ListJobs", lambda *_: job_service_pb2.ListJobsResponse(jobs=records))
    assert [job.job_id() for job in provider.jobs()] == ["a", "b"]


def test_a_listing_costs_one_request_and_touches_no_backend(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    backend = provider.get_backend("machine")
    backend.set_options(shots=77)
    scripted.calls.clear()
    provider.jobs()
    provider.retrieve_job(JOB_ID)
    assert scripted.calls == ["ListJobs", "GetJob"]
    provider.get_backend("machine")
    assert backend.options.shots == 77


def test_a_job_is_retrieved_by_id_and_by_name(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    assert provider.retrieve_job(JOB_ID).job_id() == JOB_ID
    assert provider.retrieve_job(JOB) == provider.retrieve_job(JOB_ID)
    provider.retrieve_job("accounts/acme/providerJobs/x1")
    assert [request.name for request in scripted.requests["GetJob"]][-1] == "accounts/acme/providerJobs/x1"


def test_a_job_that_is_not_there_is_not_found(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    scripted.on("GetJob", refusal("NOT_FOUND", "There is no job 'x'.", reason="JOB_NOT_FOUND"))
    with pytest.raises(IBMJobNotFoundError, match="There is no job 'x'") as caught:
        provider.retrieve_job("x")
    assert (caught.value.job_id, caught.value.reason, caught.value.code) == ("x", "JOB_NOT_FOUND", "NOT_FOUND")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAUTHENTICATED", IBMNotAuthorizedError),
        ("PERMISSION_DENIED", IBMNotAuthorizedError),
        ("INTERNAL", IBMBackendApiError),
    ],
)
def test_errors_of_calls_become_those_of_the_original(
    provider: GatewayProvider, scripted: ScriptedGateway, code: str, kind: type[Exception]
) -> None:
    for method in ("ListJobs", "ListBackends", "GetBackend", "GetJob"):
        scripted.on(method, refusal(code, "no"))
    for call in (
        provider.jobs,
        provider.backends,
        lambda: provider.get_backend("machine"),
        lambda: provider.retrieve_job("x"),
    ):
        with pytest.raises(kind, match="no"):
            call()


def test_backends_are_filtered_by_name_width_function_and_facts(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    other = backend_pb2.Backend(backend_id="other", num_qubits=7, simulator=True)
    scripted.on("ListBackends", lambda *_: backend_service_pb2.ListBackendsResponse(backends=[scripted.backend, other]))

    def names(**conditions: Any) -> list[str]:
        return [backend.name for backend in provider.backends(**conditions)]

    assert names() == ["machine", "other"]
    assert names(name="other") == ["other"]
    assert names(filters=lambda backend: backend.num_qubits > 5) == ["other"]
    assert names(simulator=True) == ["other"]
    assert names(operational=True) == ["machine"]
    assert names(simulator=False, operational=True) == ["machine"]
    assert names(colour="blue") == []
    names(min_num_qubits=4, instance="acme")
    request = scripted.requests["ListBackends"][-1]
    assert (request.min_num_qubits, request.account) == (4, "acme")


def test_one_backend_is_found_by_name_or_because_it_is_the_only_one(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    assert provider.get_backend("machine").name == "machine"
    assert provider.get_backend().name == "machine"
    assert provider.get_backend("machine", simulator=False).name == "machine"
    for wrong in ({"name": "nothing"}, {"simulator": True}, {"name": "machine", "simulator": True}):
        with pytest.raises(QiskitBackendNotFoundError):
            provider.get_backend(**wrong)
    both = [scripted.backend, backend_pb2.Backend(backend_id="other")]
    scripted.on("ListBackends", lambda *_: backend_service_pb2.ListBackendsResponse(backends=both))
    with pytest.raises(QiskitBackendNotFoundError, match="More than one"):
        provider.get_backend()


def test_the_instance_of_the_provider_is_the_default(scripted: ScriptedGateway) -> None:
    with GatewayProvider(scripted.target, "canary-0123456789", instance="acme") as provider:
        provider.jobs()
        assert list(list_request(scripted).filter.accounts) == ["acme"]
        provider.jobs(instance="other")
        assert list(list_request(scripted).filter.accounts) == ["other"]
        provider.backends()
        assert scripted.requests["ListBackends"][-1].account == "acme"
        provider.get_backend("machine")
        assert scripted.requests["GetBackend"][-1].name == "accounts/acme/backends/machine"


def test_the_service_gives_backends_as_attributes(provider: GatewayProvider) -> None:
    assert provider.backend.machine.name == "machine"
    assert provider.backend("machine").name == "machine"
    assert "machine" in dir(provider.backend)
    assert provider.backend.retrieve_job(JOB_ID).job_id() == JOB_ID
    assert [backend.name for backend in provider.backend.backends()] == ["machine"]
    assert len(provider.backend.jobs()) == 1
    with pytest.raises(AttributeError, match="There is no backend 'nothing'"):
        _ = provider.backend.nothing


def test_the_least_busy_backend_takes_jobs(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    def described(name: str, pending: int, **status: Any) -> backend_pb2.Backend:
        state = {"operational": True, "status_message": "active", **status}
        return backend_pb2.Backend(
            name=f"accounts/a/backends/{name}",
            backend_id=name,
            status=backend_pb2.BackendStatus(pending_jobs=pending, **state),
        )

    all_backends = [
        described("busy", 9),
        described("idle", 1),
        described("off", 0, operational=False),
        described("paused", 0, status_message="maintenance"),
    ]
    scripted.on("ListBackends", lambda *_: backend_service_pb2.ListBackendsResponse(backends=all_backends))
    scripted.on(
        "GetBackend",
        lambda request, _: backend_service_pb2.GetBackendResponse(
            backend=next(each for each in all_backends if each.name == request.name)
        ),
    )
    assert provider.least_busy().name == "idle"
    assert least_busy(provider.backends(name="busy")).name == "busy"
    with pytest.raises(IBMError, match="No backend takes jobs"):
        provider.least_busy(filters=lambda backend: backend.name == "off")


def test_accounts_are_listed(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    pages = {"": (["accounts/a"], "2"), "2": (["accounts/b"], "")}

    def answer(request: Any, _: Any) -> account_service_pb2.ListAccountsResponse:
        names, token = pages[request.page_token]
        accounts = [account_pb2.Account(name=name) for name in names]
        return account_service_pb2.ListAccountsResponse(accounts=accounts, next_page_token=token)

    scripted.on("ListAccounts", answer)
    assert provider.instances() == ["a", "b"]


def test_a_gateway_without_accounts_says_so(provider: GatewayProvider) -> None:
    with pytest.raises(IBMApiError, match="does not have this call yet") as caught:
        provider.instances()
    assert caught.value.reason == "RPC_NOT_IMPLEMENTED"


def test_there_are_no_stored_accounts() -> None:
    with pytest.raises(IBMAccountError, match="QGATEWAY_API_KEY"):
        GatewayProvider.save_account(token="x", overwrite=True)
    assert GatewayProvider.saved_accounts() == {}
    assert GatewayProvider.delete_account() is False


def test_the_key_is_shown_nowhere(provider: GatewayProvider, scripted: ScriptedGateway) -> None:
    shown = f"{provider!r} {provider.active_account()} {pickle.dumps(provider)!r} {provider.connection.settings!r}"
    assert "canary" not in shown
    assert provider.active_account()["url"] == scripted.target
    assert provider.active_account()["has_token"] is True


def test_a_provider_can_be_pickled_and_is_shared_by_copies(
    provider: GatewayProvider, scripted: ScriptedGateway
) -> None:
    twin = pickle.loads(pickle.dumps(provider))  # noqa: S301 - our own
    assert twin.target == scripted.target
    assert twin.retrieve_job(JOB_ID).job_id() == JOB_ID
    assert copy.deepcopy(provider) is provider
    assert copy.copy(provider) is provider
    twin.close()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, scripted: ScriptedGateway) -> None:
    monkeypatch.setenv("QGATEWAY_TARGET", scripted.target)
    monkeypatch.setenv("QGATEWAY_API_KEY", "canary-0123456789")
    with GatewayProvider() as provider:
        assert len(provider.jobs()) == 1
