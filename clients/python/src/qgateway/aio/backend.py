"""A machine or simulator behind the gateway, for asyncio: the twin of `qgateway.backend`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime as dt
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.result.models import MeasLevel, MeasReturnType
from qiskit.transpiler import Target

from qgateway import _requests, _translate
from qgateway._aio_transfer import upload_program
from qgateway._backend_record import BackendRecord
from qgateway._session_record import SessionMode, name_of_active, session_request
from qgateway._translate import translated
from qgateway.aio.job import GatewayCircuitJob
from qgateway.aio.session import Session
from qgateway.configuration import BackendStatus
from qgateway.properties import BackendProperties
from qgateway.target import to_target
from qgateway.v1 import backend_pb2, backend_service_pb2, job_service_pb2

if TYPE_CHECKING:
    from qgateway._aio_connection import AioConnection
    from qgateway.aio.provider import GatewayProvider


class GatewayBackend(BackendRecord):
    """A backend behind the gateway. Made by `GatewayProvider.get_backend` and `.backends`.

    It has the members of `qgateway.GatewayBackend`, with the same parameters, results and exceptions; what asks the gateway is
    awaited. Qiskit's `transpile(circuits, backend)` takes it; the primitives of Qiskit do not, because they do not await.

    Args:
        provider: The provider that made it.
        message: The backend as the gateway sent it, in its FULL view.
    """

    def __init__(self, provider: GatewayProvider, message: backend_pb2.Backend) -> None:
        super().__init__(provider, message)
        self._session: Session | None = None

    @property
    def connection(self) -> AioConnection:
        """The connection to the gateway."""
        return self.provider.connection  # type: ignore[no-any-return]

    @property
    def target(self) -> Target:
        """What the transpiler needs to know. No request is made."""
        if self._target is None:
            self._target = to_target(self._message)
        return self._target

    async def status(self) -> BackendStatus:
        """Ask the gateway whether the backend takes jobs, and how many wait.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        request = backend_service_pb2.GetBackendRequest(name=self._message.name, view=backend_pb2.BACKEND_VIEW_BASIC)
        with translated(_translate.backend_call(f"Failed to retrieve backend {self.name}")):
            reply = await self.connection.call(self.connection.backends.GetBackend, request)
        return BackendStatus.from_message(reply.backend)

    async def properties(self, refresh: bool = False, datetime: dt | None = None) -> BackendProperties | None:
        """Return the calibration; see `qgateway.GatewayBackend.properties`.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        if datetime is None and self._properties_known and not refresh:
            return self._properties
        request = self._properties_request(datetime)
        with translated(_translate.backend_call("Failed to retrieve backend properties")):
            reply = await self.connection.call(self.connection.backends.GetBackendProperties, request)
        return self._take_properties(reply, datetime)

    async def run(  # noqa: PLR0917 - the signature is that of the original
        self,
        circuits: QuantumCircuit | str | Iterable[QuantumCircuit | str],
        dynamic: bool | None = None,
        job_tags: list[str] | None = None,
        init_circuit: bool | None = None,
        init_num_resets: int | None = None,
        header: dict[str, Any] | None = None,
        shots: float | None = None,
        memory: bool | None = None,
        meas_level: int | MeasLevel | None = None,
        meas_return: str | MeasReturnType | None = None,
        rep_delay: float | None = None,
        init_qubits: bool | None = None,
        use_measure_esp: bool | None = None,
        noise_model: Any | None = None,
        seed_simulator: int | None = None,
        *,
        job_name: str | None = None,
        transpile: int | None = None,
        request_id: str | None = None,
        **run_config: Any,
    ) -> GatewayCircuitJob:
        """Submit a job; arguments, result and errors are those of `qgateway.GatewayBackend.run`."""
        arguments = {name: value for name, value in locals().items() if name not in ("self", "circuits", "run_config")}
        session = name_of_active(self._session)
        with translated(_translate.backend_call("Failed to read the limits of the gateway")):
            server = await self.connection.server_info()
        request = _requests.submit_request(
            circuits,
            arguments,
            self._options,
            run_config,
            backend=self._message,
            server=server,
            session=session,
        )
        with translated(_translate.submission(request.request_id)):
            if server.max_request_bytes and request.ByteSize() > server.max_request_bytes:
                request.program_sha256 = await upload_program(self.connection, request.program.SerializeToString())
            reply: job_service_pb2.SubmitJobResponse = await self.connection.call(
                self.connection.jobs.SubmitJob, request
            )
        return GatewayCircuitJob(self.provider, reply.job, backend=self)

    @property
    def session(self) -> Session | None:
        """The session in which jobs run, or None."""
        return self._session

    async def open_session(self, max_time: int | str | None = None, *, mode: SessionMode = "session") -> Session:
        """Open a session: jobs run in it until it is closed; see `qgateway.GatewayBackend.open_session`.

        Raises:
            IBMInputValueError: The time cannot be read.
            IBMApiError: The gateway did not answer, or has no sessions.
        """
        request = session_request(self.name, self.account, max_time, mode)
        with translated(_translate.service_call("Failed to open a session")):
            reply = await self.connection.call(self.connection.sessions.CreateSession, request)
        self._session = Session(self, reply.session)
        return self._session

    async def close_session(self) -> None:
        """Close the session: it takes no further jobs, those submitted run. Without a session this does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def cancel_session(self) -> None:
        """End the session at once; its waiting jobs are cancelled. Without a session this does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if self._session is not None:
            await self._session.cancel()
            self._session = None
