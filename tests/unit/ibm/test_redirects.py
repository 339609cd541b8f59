"""Results that the service keeps elsewhere."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from gateway.domain.errors import NotFound, Unavailable
from gateway.domain.provider import Health
from gateway.providers.ibm.client import IbmClient
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.authority import Authority
from tests.unit.ibm.conftest import Account
from tests.unit.ibm.test_client import submit

RESULTS = "GET /jobs/{job_id}/results"
KEPT = b'{"kept": "elsewhere"}'


class Storage:
    """A server of somebody else, which keeps a result and remembers who asked, and with what."""

    def __init__(self) -> None:
        self.asked: list[web.BaseRequest] = []
        self.url = ""
        self.status = 200
        self.leads_to: list[str] = []
        """Addresses to which the next requests are redirected."""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request)
        if self.leads_to:
            return web.Response(status=307, headers={"Location": self.leads_to.pop(0)})
        return web.Response(status=self.status, body=KEPT)


NewStorage = Callable[..., Awaitable[Storage]]


@pytest.fixture
def new_storage(closing: AsyncExitStack) -> NewStorage:
    async def make(context: ssl.SSLContext | None = None) -> Storage:
        storage = Storage()
        runner = web.ServerRunner(web.Server(storage.handle))
        await runner.setup()
        closing.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        storage.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
        return storage

    return make


@pytest.fixture
async def storage(new_storage: NewStorage) -> Storage:
    return await new_storage()


@pytest.fixture
async def tls_service(new_storage: NewStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A service that is reached over TLS, by those who take the environment's word for its certificate."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("service"))
    return await new_storage(context)


async def read(client: IbmClient, job_id: str) -> bytes:
    taken = bytearray()

    def take(pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            taken.extend(piece)

    await client.results(job_id, take)
    return bytes(taken)


async def test_a_result_that_is_kept_elsewhere_is_read_there_by_nobody_in_particular(
    new_account: Callable[..., Account], new_storage: NewStorage, control: EmulatorControl, closing: AsyncExitStack
) -> None:
    account = new_account()
    client = IbmClient(account.settings, account.tokens, account.health)
    closing.callback(client.close)
    job_id = await submit(client)
    first, last = await new_storage(), await new_storage()
    first.leads_to = [f"{last.url}/b?signed=a%2Fb%3D"]
    control.fault(RESULTS, "respond", status=302, location=first.url)
    assert await read(client, job_id) == KEPT
    assert last.asked[0].path_qs == "/b?signed=a%2Fb%3D"
    token = (await account.tokens.token()).secret.reveal()
    for request in (*first.asked, *last.asked):
        assert {"Authorization", "Service-CRN", "Cookie"}.isdisjoint(request.headers)
        assert token not in str(request.raw_headers)
        assert account.settings.crn not in str(request.raw_headers)


async def test_a_result_that_is_kept_elsewhere_at_the_service_is_read_with_the_token(
    client: IbmClient, control: EmulatorControl
) -> None:
    control.settings(manual=True)
    job_id = await submit(client)
    control.advance(job_id, "Completed")
    control.fault(RESULTS, "respond", status=307, location=f"/api/v1/jobs/{job_id}/results", times=2)
    assert b"samples" in await read(client, job_id)
    assert control.counts()[RESULTS] == 3


async def test_redirects_that_never_end_are_given_up(client: IbmClient, control: EmulatorControl) -> None:
    job_id = await submit(client)
    control.fault(RESULTS, "respond", status=302, location=f"/api/v1/jobs/{job_id}/results", times=None)
    with pytest.raises(Unavailable, match="elsewhere"):
        await read(client, job_id)
    assert control.counts()[RESULTS] == 6


async def test_only_results_are_read_elsewhere(client: IbmClient, storage: Storage, control: EmulatorControl) -> None:
    control.fault("*", "respond", status=302, location=storage.url, times=None)
    with pytest.raises(Unavailable):
        await client.job("job")
    assert not storage.asked


@pytest.mark.parametrize("status", [401, 403, 503])
async def test_what_a_storage_refuses_says_nothing_of_the_account(
    new_account: Callable[..., Account],
    storage: Storage,
    control: EmulatorControl,
    closing: AsyncExitStack,
    status: int,
) -> None:
    account = new_account(retries=0)
    client = IbmClient(account.settings, account.tokens, account.health)
    closing.callback(client.close)
    job_id = await submit(client)
    storage.status = status
    control.fault(RESULTS, "respond", status=302, location=storage.url, times=None)
    for _ in range(5):
        with pytest.raises(Unavailable, match=f"elsewhere, where it cannot be read now .HTTP {status}.") as caught:
            await read(client, job_id)
        assert type(caught.value) is Unavailable
    assert len(storage.asked) == 5
    await client.job(job_id)
    assert account.health.current().health is Health.SERVING


async def test_a_result_that_is_not_there_any_more_is_not_found(
    client: IbmClient, storage: Storage, control: EmulatorControl
) -> None:
    job_id = await submit(client)
    storage.status = 404
    control.fault(RESULTS, "respond", status=302, location=storage.url)
    with pytest.raises(NotFound):
        await read(client, job_id)


@pytest.mark.parametrize("way", ["at once", "later"])
async def test_what_is_asked_for_over_tls_is_not_read_without(
    new_client: Callable[..., IbmClient], tls_service: Storage, storage: Storage, way: str
) -> None:
    client = new_client(api_url=tls_service.url, use_environment=True)
    tls_service.leads_to = [storage.url] if way == "at once" else [tls_service.url, storage.url]
    with pytest.raises(Unavailable, match="UnsafeRedirect"):
        await read(client, "job")
    assert not tls_service.leads_to
    assert not storage.asked
