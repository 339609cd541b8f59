"""The composition root: builds every part from the settings, wires them, starts and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from qgateway.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    backend_service_pb2,
    backend_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)

from gateway.access.api_keys import KeyRing
from gateway.access.authenticator import Authenticator
from gateway.access.call_rate import CallRate
from gateway.access.certificates import ClientCertificates
from gateway.access.open_calls import OpenCalls
from gateway.access.policy import PolicyFile
from gateway.access.tokens import Tokens
from gateway.assembly import metering_of, new_provider, pacing_of
from gateway.config import ConfigError, ServerSettings, Settings, TlsSettings
from gateway.config_accounts import LocalAccountSettings
from gateway.domain import failpoints
from gateway.domain.policy import Policy, PolicySource
from gateway.domain.program import ProgramReader
from gateway.domain.provider import Health
from gateway.engine.accounts import Accounts
from gateway.engine.admission import Admission
from gateway.engine.api_keys import ApiKeys
from gateway.engine.compactor import Compactor
from gateway.engine.engine import Engine
from gateway.engine.uploads import UploadLimits
from gateway.memory import keep_freed_memory
from gateway.rpc.admin_service import AdminService
from gateway.rpc.interceptor import CallInterceptor
from gateway.rpc.job_service import JobService
from gateway.rpc.limits import Limits
from gateway.rpc.listener import new_server
from gateway.rpc.read_services import AccountService, BackendService, ServerService
from gateway.rpc.readable import PublicOnly
from gateway.rpc.session_service import SessionService
from gateway.rpc.tls import ServerCertificate, TlsFiles, TlsUnusable
from gateway.store import Store
from gateway.workers import WorkerPool, WorkerProgramReader

_log = structlog.get_logger(__name__)

_SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (job_service_pb2, "JobService"),
        (backend_service_pb2, "BackendService"),
        (session_service_pb2, "SessionService"),
        (account_service_pb2, "AccountService"),
        (admin_service_pb2, "AdminService"),
        (server_service_pb2, "ServerService"),
    )
)
_HEALTH = {
    Health.SERVING: health_pb2.HealthCheckResponse.SERVING,
    # It works still; that it may not for long is what a probe is to tell. ListAccounts tells the difference, and why.
    Health.DEGRADED: health_pb2.HealthCheckResponse.NOT_SERVING,
    Health.NOT_SERVING: health_pb2.HealthCheckResponse.NOT_SERVING,
}

_CHUNK_OVERHEAD = 1024
"""Bytes of a message beside the chunk in it, at most."""
_LOOKAHEAD_BYTES = 2 * 1024 * 1024
_FRAME_BYTES = 1024 * 1024
_HEALTH_SECONDS = 1.0
"""Seconds between two looks at the health of the accounts; it is kept in memory."""


class GatewayServer:
    """The running gateway.

    Args:
        settings: All settings.

    Raises:
        ConfigError: The settings leave something out that the server needs, or a TLS file cannot be used.
        PolicyError: The policy is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = [key.load() for key in settings.access.api_keys]
        self._policies = _policies(settings)
        self._parts = AsyncExitStack()
        self._server: grpc.aio.Server
        self._health = HealthServicer()
        self._told_health: dict[str, health_pb2.HealthCheckResponse.ServingStatus.ValueType] = {}
        self._engine: Engine
        self._certificate = server_certificate(settings.server.tls)
        self.port = 0
        """Port that the server listens on; 0 before `start`."""
        self.client_port = 0
        """Port for clients with certificates, if they have one of their own; 0 before `start`."""

    async def start(self) -> None:
        """Open the store, take up unfinished jobs, and listen.

        Raises:
            ConfigError: Nobody could call, the address cannot be listened on, or a TLS file cannot be read.
        """
        settings = self._settings
        if failpoints.armed():
            _log.warning("failpoints_armed", names=failpoints.armed())
        if not (settings.store.path.exists() or self._keys or settings.access.certificates or settings.access.issuers):
            raise _nobody()  # without leaving a new database behind
        try:
            store = await Store.open(settings.store.path)
            self._parts.push_async_callback(store.close)
            open_calls = OpenCalls()
            authenticator, keys = await self._start_identity(store, open_calls)
            pool = _worker_pool(settings, store.payloads.incoming)
            self._parts.push_async_callback(pool.close)
            reader = WorkerProgramReader(
                pool, time_limit=settings.workers.time_limit, memory_limit=settings.workers.memory_limit
            )
            accounts = Accounts(
                [
                    new_provider(name, account, settings.credentials, pool=pool, spool=store.spool, parts=self._parts)
                    for name, account in settings.accounts.items()
                ],
                self._policies,
            )
            await accounts.start()
            self._parts.push_async_callback(accounts.close)
            uploads = UploadLimits(settings.server.max_program_bytes, settings.server.upload_retention)
            admission = Admission(self._policies, metering_of(settings.accounts))
            self._engine = Engine(accounts, store, reader, pacing_of(settings.accounts), uploads, admission=admission)
            await self._engine.start()
            history = settings.history
            compactor = Compactor(store, history.max_age, history.max_events, history.interval)
            self._parts.push_async_callback(compactor.close)
            self._parts.push_async_callback(self._engine.close)
            call_rate = CallRate(settings.access.max_calls_per_second)
            interceptor = CallInterceptor(authenticator, self._engine.trail, open_calls, call_rate)
            await self._listen(accounts, reader, keys, interceptor)
        except BaseException:
            await self._parts.aclose()
            raise
        # What lives now lives until the end: the collector need not look at it again, and need not look often.
        gc.freeze()
        gc.set_threshold(50_000, 20, 1000)
        # A busy event loop must not keep the store's threads from the interpreter for whole milliseconds.
        sys.setswitchinterval(0.0002)
        _log.info(
            "listening",
            address=settings.server.listen,
            port=self.port,
            tls=self._certificate is not None,
            **({"client_port": self.client_port} if self.client_port else {}),
        )

    async def stop(self) -> None:
        """Stop: no new jobs, watches are told to come back, running calls may end, nothing that was accepted is lost."""
        _log.info("stopping")
        await self._health.enter_graceful_shutdown()
        self._engine.stop_accepting()
        await self._server.stop(self._settings.server.drain_timeout)
        await self._parts.aclose()
        _log.info("stopped")

    async def _start_identity(self, store: Store, open_calls: OpenCalls) -> tuple[Authenticator, ApiKeys]:
        """Learn who may call.

        Raises:
            ConfigError: Nobody may.
        """
        ring = KeyRing(self._keys, store.api_key_key)
        keys = ApiKeys(store, ring, open_calls, store.api_key_key)
        await keys.start()
        certificates = ClientCertificates(entry.rule() for entry in self._settings.access.certificates)
        tokens = Tokens(issuer.build() for issuer in self._settings.access.issuers)
        if ring.is_empty and not certificates and not tokens:
            raise _nobody()
        self._parts.push_async_callback(keys.close)
        noting = asyncio.create_task(keys.run())
        self._parts.callback(noting.cancel)
        for issuer in tokens.issuers:
            self._parts.push_async_callback(issuer.keys.close)
            refreshing = asyncio.create_task(issuer.keys.run())
            self._parts.callback(refreshing.cancel)
        return Authenticator(ring, tokens, certificates), keys

    async def _listen(
        self, accounts: Accounts, reader: ProgramReader, keys: ApiKeys, interceptor: CallInterceptor
    ) -> None:
        settings = self._settings.server
        limits = Limits(
            heartbeat_interval=settings.heartbeat_interval,
            chunk_bytes=settings.chunk_bytes,
            max_request_bytes=settings.max_request_bytes,
            max_streams_per_caller=settings.max_streams_per_caller,
            max_transfers_per_caller=settings.max_transfers_per_caller,
            stalled_stream_timeout=settings.stalled_stream_timeout,
            max_program_bytes=settings.max_program_bytes,
        )
        server = new_server(_channel_options(settings), [interceptor])
        # RPCs without code of their own are left to the interceptor, which answers that they are not implemented.
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobService(self._engine, limits), server)
        backend_service_pb2_grpc.add_BackendServiceServicer_to_server(BackendService(accounts), server)
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(SessionService(self._engine.sessions), server)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(
            AccountService(accounts, self._engine.jobs, self._engine.usages), server
        )
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(
            AdminService(accounts, keys, self._engine.trail),
            server,
        )
        server_service_pb2_grpc.add_ServerServiceServicer_to_server(ServerService(limits, reader), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            names = (*_SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        self._open_ports(server)
        await server.start()
        self._server = server
        if settings.health_listen is not None:
            probed = new_server([("grpc.so_reuseport", 0)], [PublicOnly()])
            health_pb2_grpc.add_HealthServicer_to_server(self._health, probed)
            _bind(probed, "health_listen", settings.health_listen, None)
            await probed.start()
            self._parts.push_async_callback(probed.stop, None)
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._tell_health(accounts)
        if isinstance(self._policies, PolicyFile):
            looking = asyncio.create_task(self._policies.run())
            self._parts.callback(looking.cancel)
        following = asyncio.create_task(self._follow_health(accounts))
        self._parts.callback(following.cancel)

    def _open_ports(self, server: grpc.aio.Server) -> None:
        """Let the server listen, and follow the files of its certificate."""
        settings, certificate = self._settings.server, self._certificate
        if certificate is None:
            self.port = _bind(server, "listen", settings.listen, None)
            return
        ask_all = settings.tls.client_ca is not None and settings.tls.client_listen is None
        self.port = _bind(server, "listen", settings.listen, certificate.credentials(ask_clients=ask_all))
        if settings.tls.client_listen is not None:
            asking = certificate.credentials(ask_clients=True)
            self.client_port = _bind(server, "tls.client_listen", settings.tls.client_listen, asking)
        following = asyncio.create_task(certificate.run())
        self._parts.callback(following.cancel)

    async def _follow_health(self, accounts: Accounts) -> None:
        """Tell the health of the accounts and of the certificate as it changes, until cancelled."""
        while True:
            await asyncio.sleep(_HEALTH_SECONDS)
            await self._tell_health(accounts)

    async def _tell_health(self, accounts: Accounts) -> None:
        healths = {
            f"account/{name}": _HEALTH[provider.health().health] for name, provider in accounts.providers.items()
        }
        if self._certificate is not None:
            healths["tls"] = _HEALTH[Health.DEGRADED if self._certificate.trouble else Health.SERVING]
        if isinstance(self._policies, PolicyFile):
            healths["policy"] = _HEALTH[Health.DEGRADED if self._policies.trouble else Health.SERVING]
        for service, health in healths.items():
            if self._told_health.get(service) != health:
                self._told_health[service] = health
                await self._health.set(service, health)


async def serve(settings: Settings, on_ready: Callable[[int], None]) -> None:
    """Run the gateway until SIGTERM or SIGINT.

    Args:
        settings: All settings.
        on_ready: Called with the port when calls are answered.

    Raises:
        ConfigError: The settings do not make a server.
    """
    keep_freed_memory()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = GatewayServer(settings)
    await server.start()
    on_ready(server.port)
    await stop.wait()
    await server.stop()


def _policies(settings: Settings) -> PolicySource:
    """Return what tenants may use, as it is at any time.

    Raises:
        PolicyError: The policy is wrong.
    """
    path = settings.access.policy
    return Policy() if path is None else PolicyFile(path, settings.accounts)


def _nobody() -> ConfigError:
    return ConfigError(
        "There are no API keys, so nobody could call. Make the first one with 'gateway init', or try the gateway out with "
        "'gateway serve --dev'."
    )


def _bind(server: grpc.aio.Server, setting: str, address: str, credentials: grpc.ServerCredentials | None) -> int:
    """Let a server listen on an address; return the port."""
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise ConfigError(f"server.{setting}: cannot listen on {address}. Is another program using the port?") from None


def _worker_pool(settings: Settings, files: Path) -> WorkerPool:
    """Return one pool for all work: the process that has just read a program is the quickest to run it, too.

    It has room for every run that the accounts allow, and beside those for reading programs. What is too large for a pipe goes
    into files where the store takes them from. What the processes leave there beside, the next start removes.
    """
    runs = sum(
        account.parallel_jobs for account in settings.accounts.values() if isinstance(account, LocalAccountSettings)
    )
    warm_up = "warm_up_programs,warm_up_simulation" if runs else "warm_up_programs"
    return WorkerPool(size=settings.workers.processes + runs, warm_up=warm_up, files=files)


def _channel_options(settings: ServerSettings) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", max(settings.max_request_bytes, settings.chunk_bytes + _CHUNK_OVERHEAD)),
        # One limit and no range: between two limits, gRPC would refuse calls at random.
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # Whoever connects and says nothing, or not enough, holds a place for so long.
        ("grpc.server_handshake_timeout_ms", round(settings.handshake_timeout * 1000)),
        ("grpc.max_connection_idle_ms", round(settings.max_connection_idle * 1000)),
        ("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", round(settings.drain_timeout * 1000)),
        # A client that vanished without a word is noticed, and its streams end.
        ("grpc.keepalive_time_ms", round(settings.keepalive_interval * 1000)),
        ("grpc.keepalive_timeout_ms", round(settings.keepalive_timeout * 1000)),
        # A ping that was written counts by this one, whose default is a minute.
        ("grpc.http2.ping_timeout_ms", round(settings.keepalive_timeout * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        # So much of an upload comes before it is asked for. A window that grows with the speed of the line, the default, would make
        # the server hold a hundred MB where the disk is slower.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
        # Without those probes a frame would stay as small as HTTP/2 begins with, 16 KiB, and each costs both sides its time.
        ("grpc.http2.max_frame_size", _FRAME_BYTES),
        # Clients may ask for a sign of life this often, also between calls; the clients of this project do it every 30 s.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Two servers on one port would share the callers at random.
        ("grpc.so_reuseport", 0),
        # A storm of new streams waits; the default would cancel most of it without a reason that clients can act upon.
        ("grpc.server.max_pending_requests", 100_000),
        ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ]


def server_certificate(settings: TlsSettings) -> ServerCertificate | None:
    """Return the certificate of a server that speaks TLS.

    Raises:
        ConfigError: Its files cannot be used.
    """
    if settings.certificate is None or settings.key is None:
        return None
    try:
        return ServerCertificate(
            TlsFiles(settings.certificate, settings.key, settings.client_ca), settings.poll_interval
        )
    except TlsUnusable as error:
        raise ConfigError(f"server.tls: {error}") from None
