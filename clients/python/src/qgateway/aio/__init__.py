"""The client for asyncio: the objects of `qgateway` with `await` before every call that asks the gateway.

    from qgateway.aio import GatewayProvider

    async with GatewayProvider() as provider:
        backend = await provider.get_backend("local_simulator")
        job = await backend.run(circuits, shots=1000)
        counts = (await job.result()).get_counts()

Names, parameters, results and exceptions are those of `qgateway`. These differ, because an attribute cannot be awaited:

* `job.usage_estimation()` is called; in `qgateway` it is a property;
* `backend.target` is a property here too: `get_backend` and `backends` read all that it needs;
* `provider.backend.NAME` does not exist: use `await provider.get_backend(NAME)`.

Objects belong to the event loop in which they were first used.
"""

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost more than the rest of this module
if TYPE_CHECKING:
    from qgateway.aio.backend import GatewayBackend
    from qgateway.aio.job import GatewayCircuitJob
    from qgateway.aio.provider import GatewayProvider, least_busy
    from qgateway.aio.session import Session

__all__ = ["GatewayBackend", "GatewayCircuitJob", "GatewayProvider", "Session", "least_busy"]

_MODULES = {
    "GatewayBackend": "backend",
    "GatewayCircuitJob": "job",
    "GatewayProvider": "provider",
    "Session": "session",
    "least_busy": "provider",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'qgateway.aio' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module("qgateway.aio." + _MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
