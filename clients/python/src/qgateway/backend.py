"""A machine or simulator behind the gateway: a mirror of `IBMBackend`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime as dt
from typing import TYPE_CHECKING, Any, SupportsIndex

from qiskit import QuantumCircuit
from qiskit.result.models import MeasLevel, MeasReturnType
from qiskit.transpiler import Target

from qgateway import _requests, _translate
from qgateway._backend_record import BackendRecord
from qgateway._session_record import SessionMode, name_of_active, session_request
from qgateway._transfer import upload_program
from qgateway._translate import translated
from qgateway.configuration import BackendStatus
from qgateway.job import GatewayCircuitJob
from qgateway.properties import BackendProperties
from qgateway.session import Session
from qgateway.target import to_target
from qgateway.v1 import backend_pb2, backend_service_pb2, job_service_pb2

if TYPE_CHECKING:
    from qgateway._connection import Connection
    from qgateway.provider import GatewayProvider


class GatewayBackend(BackendRecord):
    """A backend behind the gateway. Made by `GatewayProvider.get_backend` and `.backends`.

    Each call of those makes a new object with options and session of its own, so that parts of a program do not disturb one
    another. A backend can be copied and pickled, as a job can.

    Args:
        provider: The provider that made it.
        message: The backend as the gateway sent it.
    """

    def __init__(self, provider: GatewayProvider, message: backend_pb2.Backend) -> None:
        super().__init__(provider, message)
        self._session: Session | None = None

    @property
    def connection(self) -> Connection:
        """The connection to the gateway."""
        return self.provider.connection  # type: ignore[no-any-return]

    @property
    def target(self) -> Target:
        """What the transpiler needs to know. Read from the gateway at first use.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        if self._target is None:
            if not (self._message.instructions or self._message.qubits):
                self._message = self._read(backend_pb2.BACKEND_VIEW_FULL)
            self._target = to_target(self._message)
        return self._target

    def status(self) -> BackendStatus:
        """Ask the gateway whether the backend takes jobs, and how many wait.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        return BackendStatus.from_message(self._read(backend_pb2.BACKEND_VIEW_BASIC))

    def properties(self, refresh: bool = False, datetime: dt | None = None) -> BackendProperties | None:
        """Return the calibration.

        Args:
            refresh: Ask the gateway also where the calibration of now is known.
            datetime: As of this time; without a zone it is local time. Default: now. Always asks the gateway.

        Returns:
            The calibration; None where the backend has none, as an ideal simulator.

        Raises:
            IBMBackendApiError: The gateway did not answer.
        """
        if datetime is None and self._properties_known and not refresh:
            return self._properties
        request = self._properties_request(datetime)
        with translated(_translate.backend_call("Failed to retrieve backend properties")):
            reply = self.connection.call(self.connection.backends.GetBackendProperties, request)
        return self._take_properties(reply, datetime)

    def run(  # noqa: PLR0917 - the signature is that of the original
        self,
        circuits: QuantumCircuit | str | Iterable[QuantumCircuit | str],
        dynamic: bool | None = None,
        job_tags: list[str] | None = None,
        init_circuit: bool | None = None,
        init_num_resets: int | None = None,
        header: dict[str, Any] | None = None,
        shots: SupportsIndex | float | None = None,
        memory: bool | None = None,
        meas_level: int | MeasLevel | None = None,
        meas_return: str | MeasReturnType | None = None,
        rep_delay: float | None = None,
        init_qubits: bool | None = None,
        use_measure_esp: bool | None = None,
        noise_model: Any | None = None,
        seed_simulator: SupportsIndex | None = None,
        *,
        job_name: str | None = None,
        transpile: int | None = None,
        request_id: str | None = None,
        **run_config: Any,
    ) -> GatewayCircuitJob:
        """Submit a job and return its handle.

        What is given here comes before `backend.options`, and that before the defaults. When this returns, the gateway has
        stored the job. It is sent at most once to the provider, however often the connection breaks meanwhile.

        Args:
            circuits: A circuit, an OpenQASM 2 or 3 text, or any iterable of circuits or of texts.
            dynamic: Whether circuits have control flow. Default: found out. False is ignored, with a warning, where they have.
            job_tags: Tags, by which `jobs` finds the job.
            init_circuit: Passed to the provider as it is.
            init_num_resets: Passed to the provider as it is.
            header: Anything that goes into JSON; comes back as `job.header()` and `result.header`.
            shots: Number of shots of each circuit. Default: 4000.
            memory: Whether the result lists the outcome of each shot. Default: False.
            meas_level: 2 for bits, 1 for IQ points. Default: 2.
            meas_return: `single` or `avg`: whether IQ points are averaged over the shots. Default: `avg`.
            rep_delay: Delay between shots in seconds. Default: the backend's.
            init_qubits: Whether qubits are reset before each shot. Default: True.
            use_measure_esp: Not supported; True is refused.
            noise_model: A noise model of Aer, or its dictionary; passed to the provider.
            seed_simulator: Seed of a simulator. Default: random.
            job_name: Name for people.
            transpile: Optimisation level 0 to 3 at which the gateway transpiles the circuits. Default: it does not.
            request_id: Makes the submission idempotent: the same id gives the same job. Default: a new one.
            run_config: Options that only the provider knows. Each gives a warning; the provider refuses what it does not know.

        Raises:
            IBMBackendValueError: An argument is wrong, or the gateway refuses the circuits.
            IBMBackendJobLimitError: The backend, or a limit of the caller, takes no more jobs for now.
            IBMBackendError: The backend does not exist any more, or takes no jobs.
            IBMNotAuthorizedError: The caller may not submit.
            IBMBackendApiError: The gateway did not answer.
            RuntimeError: The session of this backend was closed.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "circuits", "run_config")}
        session = name_of_active(self._session)
        with translated(_translate.backend_call("Failed to read the limits of the gateway")):
            server = self.connection.server_info()
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
                request.program_sha256 = upload_program(self.connection, request.program.SerializeToString())
            reply: job_service_pb2.SubmitJobResponse = self.connection.call(self.connection.jobs.SubmitJob, request)
        return GatewayCircuitJob(self.provider, reply.job, backend=self)

    @property
    def session(self) -> Session | None:
        """The session in which jobs run, or None."""
        return self._session

    def open_session(self, max_time: int | str | None = None, *, mode: SessionMode = "session") -> Session:
        """Open a session: jobs run in it until it is closed. One that is open before is left to itself.

        Args:
            max_time: Longest time that it may last: a number of seconds, or a sum such as `1h 30m`. Default: the provider's.
            mode: `session` holds the backend between jobs; `batch` runs jobs together without holding it.

        Raises:
            IBMInputValueError: The time cannot be read.
            IBMApiError: The gateway did not answer, or has no sessions.
        """
        request = session_request(self.name, self.account, max_time, mode)
        with translated(_translate.service_call("Failed to open a session")):
            reply = self.connection.call(self.connection.sessions.CreateSession, request)
        self._session = Session(self, reply.session)
        return self._session

    def close_session(self) -> None:
        """Close the session: it takes no further jobs, those submitted run. Without a session this does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if self._session is not None:
            self._session.close()
            self._session = None

    def cancel_session(self) -> None:
        """End the session at once; its waiting jobs are cancelled. Without a session this does nothing.

        Raises:
            IBMApiError: The gateway did not answer, or refused.
        """
        if self._session is not None:
            self._session.cancel()
            self._session = None

    def _read(self, view: backend_pb2.BackendView.ValueType) -> backend_pb2.Backend:
        request = backend_service_pb2.GetBackendRequest(name=self._message.name, view=view)
        with translated(_translate.backend_call(f"Failed to retrieve backend {self.name}")):
            return self.connection.call(self.connection.backends.GetBackend, request).backend
