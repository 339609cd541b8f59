"""What a provider knows without asking: how it reaches the gateway."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from qgateway._settings import ApiKey, ConnectionSettings, TlsMode
from qgateway._watch_state import ManyJobs, WatchState
from qgateway.exceptions import IBMAccountError
from qgateway.v1 import backend_pb2, backend_service_pb2, job_pb2

if TYPE_CHECKING:
    from qgateway._aio_connection import AioConnection
    from qgateway._connection import Connection

AnyConnection = TypeVar("AnyConnection", "Connection", "AioConnection")

_NO_ACCOUNTS = (
    "The gateway holds the provider keys, so there is no account to save here. "
    "Set QGATEWAY_TARGET and QGATEWAY_API_KEY, or pass target= and api_key= to GatewayProvider."
)


class ProviderRecord(Generic[AnyConnection]):
    """The part of a provider that does no I/O; the providers for threads and for asyncio build on it.

    Arguments and errors are those of `qgateway.GatewayProvider`.
    """

    _connect: type[AnyConnection]

    def __init__(
        self,
        target: str | None = None,
        api_key: str | ApiKey | Callable[[], str] | None = None,
        *,
        instance: str | None = None,
        tls: TlsMode | None = None,
        tls_root: str | PathLike[str] | None = None,
        tls_cert: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
        tls_server_name: str | None = None,
        api_key_file: str | PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        settings = ConnectionSettings.from_environment(
            target=target,
            api_key=api_key,
            api_key_file=api_key_file,
            tls=tls,
            tls_root=tls_root,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_server_name=tls_server_name,
            timeout=timeout,
        )
        self._instance = instance
        self.connection: AnyConnection = self._connect(settings)

    @property
    def target(self) -> str:
        """Address of the gateway."""
        return self.connection.settings.target

    def active_account(self) -> dict[str, Any]:
        """Return how this provider reaches the gateway, without the key."""
        settings = self.connection.settings
        return {
            "channel": "qgateway",
            "url": settings.target,
            "instance": self._instance,
            "verify": settings.uses_tls,
            "has_token": settings.api_key is not None,
        }

    @staticmethod
    def save_account(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG004 - whatever the original took
        """Refuse: keys are not stored on the caller's disk.

        Raises:
            IBMAccountError: Always; the message says what to do instead.
        """
        raise IBMAccountError(_NO_ACCOUNTS)

    @staticmethod
    def saved_accounts(default: bool | None = None, name: str | None = None) -> dict[str, Any]:  # noqa: ARG004
        """Return the accounts stored on the caller's disk: always none."""
        return {}

    @staticmethod
    def delete_account(name: str | None = None) -> bool:  # noqa: ARG004
        """Return whether a stored account was deleted: always False, as there are none."""
        return False

    def _new_watch(self, conditions: job_pb2.JobFilter, resume_token: str, timeout: float | None) -> WatchState:
        """Return the state of a watch of many jobs that begins now."""
        return WatchState(
            ManyJobs(conditions), self.target, now=time.monotonic(), resume_token=resume_token, timeout=timeout
        )

    def _listing_request(
        self, min_num_qubits: int | None, instance: str | None, view: backend_pb2.BackendView.ValueType
    ) -> backend_service_pb2.ListBackendsRequest:
        """Return the request for the backends of an account, by default of the provider's own, else of all."""
        return backend_service_pb2.ListBackendsRequest(
            account=instance or self._instance or "", min_num_qubits=min_num_qubits or 0, view=view
        )

    def __copy__(self) -> Self:
        """Return the provider itself: copies of what it made share its connection."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the provider itself: copies of what it made share its connection."""
        return self

    def __repr__(self) -> str:
        """Return class and address."""
        return f"<GatewayProvider('{self.target}')>"


def warn_of_unreachable(reply: backend_service_pb2.ListBackendsResponse) -> None:
    """Warn of accounts whose backends are missing from a listing."""
    if reply.unreachable:
        names = ", ".join(name.rpartition("/")[2] for name in reply.unreachable)
        warnings.warn(f"Without the backends of {names}: the account cannot be asked now.", stacklevel=4)
