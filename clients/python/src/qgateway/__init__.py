"""Python client of the quantum job gateway; mirrors `IBMCircuitJob` and its surroundings.

    from qgateway import GatewayProvider

    provider = GatewayProvider()                        # reads QGATEWAY_TARGET and QGATEWAY_API_KEY
    backend = provider.get_backend("local_simulator")
    job = backend.run(circuits, shots=1000)
    counts = job.result().get_counts()

Importing this package is light: qiskit, grpc and the rest are imported when a name is first used. For asyncio there is
`qgateway.aio`; the stubs of the contract are in `qgateway.v1`.
"""

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost more than the rest of this module
if TYPE_CHECKING:
    from qgateway._errors import GatewayCallError
    from qgateway._settings import ConnectionSettings, SettingsError
    from qgateway.backend import GatewayBackend
    from qgateway.configuration import BackendConfiguration, BackendStatus
    from qgateway.exceptions import (
        IBMAccountError,
        IBMApiError,
        IBMBackendApiError,
        IBMBackendApiProtocolError,
        IBMBackendError,
        IBMBackendJobLimitError,
        IBMBackendNotFoundError,
        IBMBackendValueError,
        IBMError,
        IBMInputValueError,
        IBMJobApiError,
        IBMJobError,
        IBMJobFailureError,
        IBMJobInvalidStateError,
        IBMJobNotFoundError,
        IBMJobTimeoutError,
        IBMNotAuthorizedError,
        IBMProviderError,
    )
    from qgateway.job import GatewayCircuitJob
    from qgateway.monitor import job_monitor
    from qgateway.primitives import SamplerV2
    from qgateway.properties import BackendProperties, BackendPropertyError
    from qgateway.provider import GatewayProvider, least_busy
    from qgateway.queue_info import QueueInfo
    from qgateway.session import Session

    __version__: str

__all__ = [
    "BackendConfiguration",
    "BackendProperties",
    "BackendPropertyError",
    "BackendStatus",
    "ConnectionSettings",
    "GatewayBackend",
    "GatewayCallError",
    "GatewayCircuitJob",
    "GatewayProvider",
    "IBMAccountError",
    "IBMApiError",
    "IBMBackendApiError",
    "IBMBackendApiProtocolError",
    "IBMBackendError",
    "IBMBackendJobLimitError",
    "IBMBackendNotFoundError",
    "IBMBackendValueError",
    "IBMError",
    "IBMInputValueError",
    "IBMJobApiError",
    "IBMJobError",
    "IBMJobFailureError",
    "IBMJobInvalidStateError",
    "IBMJobNotFoundError",
    "IBMJobTimeoutError",
    "IBMNotAuthorizedError",
    "IBMProviderError",
    "QueueInfo",
    "SamplerV2",
    "Session",
    "SettingsError",
    "__version__",
    "job_monitor",
    "least_busy",
]

_MODULES = {
    "BackendConfiguration": "configuration",
    "BackendProperties": "properties",
    "BackendPropertyError": "properties",
    "BackendStatus": "configuration",
    "ConnectionSettings": "_settings",
    "GatewayBackend": "backend",
    "GatewayCallError": "_errors",
    "GatewayCircuitJob": "job",
    "GatewayProvider": "provider",
    "QueueInfo": "queue_info",
    "SamplerV2": "primitives",
    "Session": "session",
    "SettingsError": "_settings",
    "job_monitor": "monitor",
    "least_busy": "provider",
}
"""Where a name comes from; those that begin with IBM come from `exceptions`."""


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module 'qgateway' has no attribute {name!r}")
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version("qgateway")
    else:
        from importlib import import_module

        value = getattr(import_module("qgateway." + _MODULES.get(name, "exceptions")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
