"""Where an account's instance is, and how patient the gateway is with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.errors import OutOfRange, Reason

_REGION_FIELD = 5
_CRN_FIELDS = 10
_HOME_REGION = "us-east"


class CircuitProgram(StrEnum):
    """The provider's program that runs circuits."""

    EXECUTOR = "executor"
    SAMPLER = "sampler"


class CircuitFormat(StrEnum):
    """How circuits are written for the provider."""

    QPY_17 = "qpy17"
    """Read since Qiskit 2.3, and by every program."""
    QPY_18 = "qpy18"
    """Read since Qiskit 2.6; for `executor` only."""
    OPENQASM_3 = "openqasm3"
    """For `executor` only."""


@dataclass(frozen=True, slots=True)
class IbmSettings:
    """One account: an instance of the service, and limits.

    Raises:
        ValueError: The CRN is none, or the circuit format does not go with the program.
    """

    account: str
    """Name of the account in the gateway."""
    crn: str
    """The instance: `crn:v1:bluemix:public:quantum-computing:REGION:a/ACCOUNT:GUID::`."""
    description: str = "IBM Quantum."
    """What the account is for, for people."""
    api_url: str = ""
    """Address of the API with its path; empty: that of the region."""
    program: CircuitProgram = CircuitProgram.EXECUTOR
    """What runs circuits."""
    circuit_format: CircuitFormat = CircuitFormat.QPY_17
    """How circuits are written."""
    fractional_gates: bool = False
    """Whether `rx` and `rzz` are offered; they do not go together with control flow, nor with every angle."""
    common_tag: str = "qgateway"
    """Tag of every job that the gateway submits; it is never shown to callers."""
    threads: int = 8
    """Most calls to the provider at a time."""
    max_waiting_calls: int = 1000
    """Most calls that wait for one of the threads."""
    connect_timeout: float = 5.0
    """Seconds that a connection may take."""
    read_timeout: float = 30.0
    """Seconds of silence after which a reply is given up."""
    total_timeout: float = 300.0
    """Seconds that the body of a reply may take in all."""
    submit_timeout: float = 120.0
    """Seconds of silence after which the reply to a new job is given up."""
    inline_seconds: float = 10.0
    """Seconds that callers wait for a description of backends that was never read."""
    settle_seconds: float = 120.0
    """Seconds after a lost reply in which the job can still turn up."""
    retries: int = 3
    """How often a call that may be repeated safely is repeated before its failure is told; once if the answer failed to come."""
    backoff: float = 0.3
    """Seconds before the second repetition; each further one waits twice as long."""
    status_seconds: float = 10.0
    """For how long the list of backends with their queues is used again."""
    description_seconds: float = 900.0
    """For how long the description of a backend is used again."""
    shortest_outage: float = 1.0
    """Seconds for which nobody calls a provider that was found down; each further time it is twice as long."""
    longest_outage: float = 60.0
    """Most of them."""
    probe_seconds: float = 30.0
    """Seconds between two looks at whether an account that is not well is well again."""
    max_result_bytes: int = 1024**3
    """Largest result of a job, as it is sent and as it is stored."""
    use_environment: bool = True
    """Whether proxies and certificates named by the environment are used."""

    def __post_init__(self) -> None:
        """Check what belongs together."""
        if not self.crn.startswith("crn:") or len(self.crn.split(":")) != _CRN_FIELDS:
            raise ValueError(
                f"The instance of account {self.account!r} is no CRN. Copy it from the provider's page of instances; it begins "
                "with 'crn:v1:'."
            )
        if self.program is CircuitProgram.SAMPLER and self.circuit_format is not CircuitFormat.QPY_17:
            raise ValueError(f"Account {self.account!r}: the program sampler takes circuits as qpy17 only.")

    def result_too_large(self) -> OutOfRange:
        """Return the error for a result that is larger than the limit."""
        return OutOfRange(
            f"The result is larger than the {self.max_result_bytes} bytes that account {self.account!r} takes in. Use fewer shots, "
            "cut the job into several, or have the operator raise max_result_bytes.",
            reason=Reason.RESULT_LIMIT_EXCEEDED,
            metadata={"account": self.account, "limit_bytes": str(self.max_result_bytes)},
        )

    @property
    def url(self) -> str:
        """Address of the API, without a slash at its end."""
        if self.api_url:
            return self.api_url.rstrip("/")
        region = self.crn.split(":")[_REGION_FIELD]
        host = "quantum.cloud.ibm.com" if region == _HOME_REGION else f"{region}.quantum.cloud.ibm.com"
        return f"https://{host}/api/v1"
