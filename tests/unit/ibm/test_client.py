"""The client of the service's API, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.domain.errors import (
    AccountRefused,
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    SubmissionInDoubt,
    Unavailable,
)
from gateway.domain.provider import Health
from gateway.providers.ibm.client import IbmClient
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.waiting import until
from tests.unit.emulators.caller import sampler_params
from tests.unit.ibm.conftest import Account

JOB = "GET /jobs/{job_id}"


def body(backend: str = "ibm_alder", **fields: Any) -> bytes:
    return orjson.dumps({"program_id": "sampler", "backend": backend, "params": sampler_params(), **fields})


async def submit(client: IbmClient, backend: str = "ibm_alder", **fields: Any) -> str:
    return (await client.submit(body(backend, **fields), backend)).id


async def test_the_routes_of_backends_and_usage_are_read(client: IbmClient) -> None:
    names = {device.name: device for device in (await client.devices()).devices}
    assert names["ibm_cedar"].status.name == "offline"
    assert not any(name.startswith("mock") for name in names)
    configuration = await client.configuration("ibm_alder")
    assert (configuration.n_qubits, configuration.dt) == (5, 4.0)
    properties = await client.properties("ibm_alder")
    assert properties is not None
    assert len(properties.qubits) == 5
    assert await client.properties("ibm_alder", "2020-01-01T00:00:00+00:00") is None
    assert (await client.usage()).usage_limit_seconds == 100_000


async def test_a_job_goes_from_submit_to_delete(client: IbmClient) -> None:
    job_id = await submit(client, tags=["a"])

    async def ended() -> bool:
        return (await client.job(job_id)).state.status == "Completed"

    async with asyncio.timeout(30):
        while not await ended():
            await asyncio.sleep(0.02)
    pieces = list[bytes]()
    await client.results(job_id, pieces.extend)
    assert orjson.loads(b"".join(pieces))["results"]
    assert (await client.metrics(job_id)).timestamps.finished is not None
    assert "ibm_alder" in await client.logs(job_id)
    await client.set_tags(job_id, ["b", "c"])
    assert (await client.job(job_id)).tags == ("b", "c")
    assert [job.id for job in (await client.jobs([("tags", "b")])).jobs] == [job_id]
    assert (await client.program(job_id)).params is not None
    with pytest.raises(FailedPrecondition):
        await client.cancel(job_id)
    await client.delete(job_id)
    with pytest.raises(NotFound):
        await client.job(job_id)


async def test_a_session_opens_closes_and_is_cancelled(client: IbmClient) -> None:
    session = await client.open_session("batch", "ibm_alder", 600)
    assert (session.mode, session.max_ttl, session.accepting_jobs) == ("batch", 600, True)
    await client.close_session(session.id)
    assert not (await client.session(session.id)).accepting_jobs
    other = await client.open_session("dedicated", "ibm_alder", None)
    await client.cancel_session(other.id)
    assert (await client.session(other.id)).state == "closed"


async def test_calls_bear_the_instance_and_a_token_and_never_the_key(
    client: IbmClient, control: EmulatorControl
) -> None:
    await client.devices()
    (call,) = control.calls("GET /backends")
    assert (call["scheme"], call["instance"]) == ("Bearer", client._settings.crn)
    assert control.counts()["POST /identity/token"] == 1


@pytest.mark.parametrize("shape", ["errors", "error"])
async def test_both_shapes_of_errors_are_understood(client: IbmClient, control: EmulatorControl, shape: str) -> None:
    control.fault(JOB, "respond", status=400, shape=shape, code=1208, message="No such luck.")
    with pytest.raises(InvalidArgument) as caught:
        await client.job("x")
    assert caught.value.reason is Reason.PROVIDER_REJECTED
    assert caught.value.metadata["provider_code"] == "1208"
    assert caught.value.metadata["provider_message"] == "No such luck."
    assert ("trace" in caught.value.metadata) == (shape == "errors")
    assert "No such luck." in caught.value.message


@pytest.mark.parametrize("shape", ["text", "empty"])
async def test_an_error_without_any_shape_is_told_by_its_status(
    client: IbmClient, control: EmulatorControl, shape: str
) -> None:
    control.fault(JOB, "respond", status=404, shape=shape)
    with pytest.raises(NotFound) as caught:
        await client.job("x")
    assert caught.value.metadata["http_status"] == "404"


async def test_a_safe_call_is_repeated_until_the_service_is_well(client: IbmClient, control: EmulatorControl) -> None:
    job_id = await submit(client)
    control.fault(JOB, "respond", status=503, times=2)
    control.fault(JOB, "drop", times=1)
    assert (await client.job(job_id)).id == job_id
    assert control.counts()[JOB] == 4


async def test_a_service_that_stays_away_is_unavailable_and_turns_the_account_red(
    new_account: Callable[..., Account], control: EmulatorControl
) -> None:
    account = new_account()
    client = IbmClient(account.settings, account.tokens, account.health)
    control.fault("GET /backends", "respond", status=502, times=None)
    with pytest.raises(Unavailable) as caught:
        await client.devices()
    assert caught.value.reason is Reason.PROVIDER_UNAVAILABLE
    assert account.health.current().health is Health.NOT_SERVING
    control.clear_faults()
    await client.devices()
    assert account.health.current().health is Health.SERVING
    client.close()


@pytest.mark.parametrize("as_date", [False, True])
async def test_a_long_retry_after_is_left_to_the_caller(
    client: IbmClient, control: EmulatorControl, as_date: bool
) -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True) if as_date else "90"
    control.fault("GET /backends", "respond", status=503, retry_after=value, times=None)
    with pytest.raises(Unavailable) as caught:
        await client.devices()
    assert caught.value.retry_after == pytest.approx(90, abs=5)
    assert control.counts()["GET /backends"] == 1


@pytest.mark.parametrize(("retry_after", "wait"), [("7", 7.0), (None, 15.0)])
async def test_too_many_calls_are_told_and_not_repeated(
    client: IbmClient, control: EmulatorControl, retry_after: str | None, wait: float
) -> None:
    control.fault("GET /backends", "respond", status=429, retry_after=retry_after)
    with pytest.raises(ResourceExhausted) as caught:
        await client.devices()
    assert (caught.value.reason, caught.value.retry_after) == (Reason.RATE_LIMITED, wait)
    assert control.counts()["GET /backends"] == 1


async def test_a_refused_token_is_replaced_once_even_for_a_new_job(client: IbmClient, control: EmulatorControl) -> None:
    await client.devices()
    control.expire_tokens()
    await submit(client)
    assert control.counts()["POST /identity/token"] == 2
    assert len(control.jobs()) == 1


async def test_tokens_that_are_always_refused_are_refused_credentials(
    client: IbmClient, control: EmulatorControl
) -> None:
    control.fault("GET /backends", "respond", status=401, times=None)
    with pytest.raises(Unavailable) as caught:
        await client.devices()
    assert caught.value.reason is Reason.CREDENTIALS_REFUSED
    assert control.counts()["GET /backends"] == 2


async def test_a_wrong_key_is_refused_credentials(new_client: Callable[..., IbmClient]) -> None:
    canary = "canary-key-4711"
    with pytest.raises(Unavailable) as caught:
        await new_client(key=canary).devices()
    assert caught.value.reason is Reason.CREDENTIALS_REFUSED
    assert canary not in f"{caught.value!r} {caught.value.metadata} {caught.value.__cause__!r}"


async def test_neither_key_nor_token_is_in_any_error_log_or_health(
    new_account: Callable[..., Account],
    emulator: EmulatorProcess,
    control: EmulatorControl,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    account = new_account(retries=1)
    client = IbmClient(account.settings, account.tokens, account.health)
    token = (await account.tokens.token()).secret.reveal()
    told = [repr(account), repr(client), repr(account.tokens), repr(account.exchange)]
    faults: list[dict[str, Any]] = [
        {"action": "respond", "status": 401, "times": 2},
        {"action": "respond", "status": 403},
        {"action": "respond", "status": 500},
        {"action": "drop"},
        {"action": "garble", "body": "{"},
    ]
    for fault in faults:
        control.fault("POST /jobs", **fault)
        with pytest.raises(GatewayError) as caught:
            await submit(client)
        told += traceback.format_exception(caught.value)
        told += [str(caught.value.metadata), account.health.current().message]
    client.close()
    told += [caplog.text, *capfd.readouterr()]
    everything = "\n".join(told)
    assert "HTTP 500" in everything
    for secret in (emulator.api_key(), token, token.rpartition(".")[2]):
        assert secret not in everything


async def test_an_instance_of_another_account_is_refused(new_client: Callable[..., IbmClient], emulator: Any) -> None:
    with pytest.raises(AccountRefused) as caught:
        await new_client(crn=emulator.crn("beta")).devices()
    assert caught.value.reason is Reason.INSTANCE_REFUSED


@pytest.mark.parametrize(
    ("setting", "error", "reason"),
    [
        ({"max_pending_jobs": 1, "manual": True}, ResourceExhausted, Reason.INSTANCE_LIMIT_REACHED),
        ({"submits_per_minute": 1}, ResourceExhausted, Reason.RATE_LIMITED),
    ],
)
async def test_limits_of_submission_are_told_apart(
    client: IbmClient,
    control: EmulatorControl,
    setting: dict[str, Any],
    error: type[GatewayError],
    reason: Reason,
) -> None:
    control.settings(**setting)
    await submit(client)
    with pytest.raises(error) as caught:
        await submit(client)
    assert caught.value.reason is reason
    assert caught.value.retry_after


async def test_a_used_up_instance_an_offline_backend_and_an_unknown_one_are_told_apart(
    client: IbmClient, control: EmulatorControl
) -> None:
    with pytest.raises(FailedPrecondition) as offline:
        await submit(client, "ibm_cedar")
    with pytest.raises(NotFound) as unknown:
        await submit(client, "ibm_nowhere")
    control.change_instance("alpha-open", usage_consumed_seconds=200_000)
    with pytest.raises(ResourceExhausted) as used_up:
        await submit(client)
    assert [caught.value.reason for caught in (offline, unknown, used_up)] == [
        Reason.BACKEND_NOT_OPERATIONAL,
        Reason.BACKEND_NOT_FOUND,
        Reason.INSTANCE_LIMIT_REACHED,
    ]
    assert unknown.value.metadata["backend"] == "ibm_nowhere"


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "respond", "status": 503, "when": "before"},
        {"action": "respond", "status": 500, "when": "after"},
        {"action": "drop", "when": "before"},
        {"action": "drop", "when": "after", "reset": True},
        {"action": "cut", "bytes": 40},
        {"action": "cut", "body_bytes": 5},
        {"action": "garble", "body": "{"},
        {"action": "garble", "body": "{}"},
        {"action": "hang", "when": "after", "seconds": 30.0},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_a_new_job_is_sent_once_and_its_lost_answer_is_a_doubt(
    new_client: Callable[..., IbmClient], control: EmulatorControl, fault: dict[str, Any]
) -> None:
    client = new_client(submit_timeout=0.5)
    control.fault("POST /jobs", times=None, **fault)
    with pytest.raises(SubmissionInDoubt) as caught:
        await submit(client)
    assert caught.value.retry_after == client._settings.settle_seconds
    assert control.counts()["POST /jobs"] == 1
    control.clear_faults()


async def test_a_job_that_met_a_closed_port_was_certainly_not_sent(new_client: Callable[..., IbmClient]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable):
        await submit(new_client(api_url=f"http://127.0.0.1:{port}/api/v1"))


@pytest.mark.parametrize("text", ["{", "[]", '{"jobs": 1}'])
async def test_an_answer_that_cannot_be_understood_is_told_as_trouble_of_the_service(
    client: IbmClient, control: EmulatorControl, text: str
) -> None:
    control.fault("GET /jobs", "garble", body=text)
    with pytest.raises(Unavailable):
        await client.jobs([])


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_listing_that_is_refused_tells_of_the_service_and_not_of_what_is_listed(
    client: IbmClient, control: EmulatorControl, status: int
) -> None:
    """A job in doubt, or one that waits, must not be given up for it."""
    for read in (client.devices, lambda: client.jobs([])):
        control.fault("GET *", "respond", status=status)
        with pytest.raises(Unavailable):
            await read()
        assert client._health.current().health is Health.NOT_SERVING
        await read()
        assert client._health.current().health is Health.SERVING


async def test_half_a_body_is_told_as_trouble_of_the_service(client: IbmClient, control: EmulatorControl) -> None:
    control.fault("GET /backends", "cut", body_bytes=20)
    with pytest.raises(Unavailable):
        await client.devices()


async def test_iam_out_of_reach_and_iam_that_sends_no_token_are_told(
    new_client: Callable[..., IbmClient], control: EmulatorControl
) -> None:
    control.fault("POST /identity/token", "respond", status=503, retry_after="30")
    with pytest.raises(Unavailable) as away:
        await new_client().devices()
    assert away.value.reason is Reason.PROVIDER_UNAVAILABLE
    assert away.value.retry_after == pytest.approx(30, abs=2)
    control.fault("POST /identity/token", "garble", body='{"access_token": "canary"}')
    with pytest.raises(Unavailable) as garbled:
        await new_client().devices()
    assert "canary" not in str(garbled.value)


async def test_no_more_calls_wait_than_may(new_client: Callable[..., IbmClient], control: EmulatorControl) -> None:
    client = new_client(threads=1, max_waiting_calls=1)
    await client.devices()
    control.fault("GET /backends", "hang", seconds=None)
    calls = [asyncio.create_task(client.devices()) for _ in range(2)]
    await until(lambda: client._calls == 2)
    with pytest.raises(ResourceExhausted):
        await client.devices()
    control.clear_faults()
    await asyncio.gather(*calls)


async def test_calls_that_were_not_even_begun_say_nothing_of_the_provider(
    new_client: Callable[..., IbmClient], control: EmulatorControl
) -> None:
    client = new_client(threads=1, max_waiting_calls=0, retries=0)
    control.fault("GET /backends", "drop", when="before")
    with pytest.raises(Unavailable):
        await client.devices()
    assert client._health.current().health is Health.NOT_SERVING
    control.fault("GET /backends", "hang", seconds=None)
    call = asyncio.create_task(client.devices())
    await until(lambda: client._calls == 1)
    with pytest.raises(ResourceExhausted):
        await client.devices()
    assert client._health.current().health is Health.NOT_SERVING
    control.clear_faults()
    with suppress(Unavailable):  # the connection is closed
        await call


@pytest.mark.parametrize("asked", ["99999999999999999999", format_datetime(datetime(9000, 1, 1, tzinfo=UTC))])
async def test_nobody_waits_for_longer_than_an_hour_because_the_provider_asks_for_it(
    client: IbmClient, control: EmulatorControl, asked: str
) -> None:
    control.fault("POST /jobs", "respond", status=429, retry_after=asked)
    with pytest.raises(ResourceExhausted) as caught:
        await submit(client)
    assert caught.value.retry_after == 3600
    control.fault("POST /identity/token", "respond", status=503, retry_after=asked)
    control.expire_tokens()
    with pytest.raises(Unavailable) as unavailable:
        await client.devices()
    assert unavailable.value.retry_after == pytest.approx(3600, abs=5)


async def test_a_reply_that_trickles_is_given_up_in_time(new_client: Callable[..., IbmClient]) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = new_client(api_url=f"http://127.0.0.1:{port}/api/v1", total_timeout=0.2, retries=0)
    async with server, asyncio.timeout(20):
        with pytest.raises(Unavailable):
            await client.devices()


async def test_a_name_never_reaches_another_route(client: IbmClient, control: EmulatorControl) -> None:
    for name in ("../backends", "..", "", "a/b?c"):
        with pytest.raises(NotFound):
            await client.job(name)
    assert "GET /backends" not in control.counts()


async def test_the_proxy_that_the_environment_names_is_used_and_no_other_word_of_it(
    new_client: Callable[..., IbmClient],
    emulator: EmulatorProcess,
    control: EmulatorControl,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine quantum.invalid login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", emulator.url)
    client = new_client(api_url="http://quantum.invalid/api/v1", use_environment=True)
    assert (await client.devices()).devices
    (call,) = control.calls("GET /backends")
    assert call["scheme"] == "Bearer"
