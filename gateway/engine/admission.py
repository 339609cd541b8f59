"""Which jobs a tenant may submit: the one place where its policy is applied to a submission.

What depends on the jobs of the tenant so far (how many are pending, what they have used) is checked by the store, in the
transaction that creates the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.access.rates import Rates
from gateway.domain.access import Caller
from gateway.domain.errors import InvalidArgument, QuotaViolation, Reason, ResourceExhausted
from gateway.domain.job import JobUsage, RunOptions
from gateway.domain.policy import Limits, Metering, Policy, PolicySource
from gateway.domain.program import PreparedProgram


class Admission:
    """Applies the policies of tenants to what they submit.

    Args:
        policies: What tenants may do.
        metering: By account, how its jobs count in budgets; by default not at all.
    """

    def __init__(
        self,
        policies: PolicySource = Policy(),  # noqa: B008 - it never changes
        metering: Mapping[str, Metering] = MappingProxyType({}),
    ) -> None:
        self._policies = policies
        self._metering = metering
        self._rates = Rates()

    def limits(self, caller: Caller) -> Limits:
        """Return the limits of the caller's tenant as they are now."""
        return self._policies.of(caller.tenant).limits

    def count(self, caller: Caller) -> None:
        """Count a submission.

        Raises:
            ResourceExhausted: The tenant submits too often.
        """
        limit = self.limits(caller).submissions_per_minute
        if limit is None:
            return
        wait = self._rates.take(caller.tenant, limit / 60.0, max(1.0, limit))
        if wait:
            text = f"The tenant {caller.tenant!r} may submit {limit:g} jobs a minute."
            raise ResourceExhausted(
                f"{text} Submit again in {wait:.1f} seconds.",
                reason=Reason.SUBMISSION_RATE_EXCEEDED,
                metadata={"tenant": caller.tenant, "limit_name": "submissions_per_minute", "limit": f"{limit:g}"},
                quota=QuotaViolation(f"tenants/{caller.tenant}", "submissions_per_minute", text),
                retry_after=wait,
            )

    def uncount(self, caller: Caller) -> None:
        """Take back the count of a submission that turned out to be an earlier one, sent again."""
        limit = self.limits(caller).submissions_per_minute
        if limit is not None:
            self._rates.give_back(caller.tenant, limit / 60.0)

    def check_request(self, caller: Caller, program_bytes: int, options: RunOptions) -> None:
        """Check what can be seen before the program is read.

        Raises:
            InvalidArgument: It is more than the tenant may ask for.
        """
        limits = self.limits(caller)
        _check("program_bytes", program_bytes, limits.program_bytes, "program")
        _check("shots_per_circuit", options.shots, limits.shots_per_circuit, "options.shots")

    def check_program(self, caller: Caller, program: PreparedProgram, options: RunOptions) -> None:
        """Check a program that was read.

        Raises:
            InvalidArgument: It is more than the tenant may ask for.
        """
        limits, circuits = self.limits(caller), program.summary.circuit_count
        _check("circuits_per_job", circuits, limits.circuits_per_job, "program")
        _check("shots_per_job", _shots(circuits, options), limits.shots_per_job, "options.shots")

    def reserve(self, account: str, program: PreparedProgram, options: RunOptions) -> JobUsage:
        """Return what a new job holds of its tenant's budgets."""
        shots = _shots(program.summary.circuit_count, options)
        return JobUsage(reserved_seconds=self._metering_of(account).reservation(shots))

    def reserve_nothing(self, account: str) -> JobUsage:
        """Return what a job holds of its tenant's budgets that its provider has already: nothing, but its charge will count."""
        return JobUsage(reserved_seconds=0.0 if self._metering_of(account).metered else None)

    def _metering_of(self, account: str) -> Metering:
        return self._metering.get(account, Metering())


def _shots(circuits: int, options: RunOptions) -> int:
    return max(1, circuits) * options.shots  # a raw program tells no number of circuits


def _check(name: str, asked: int, limit: int | None, field: str) -> None:
    if limit is not None and asked > limit:
        description = f"the tenant may have {limit} ({name}), and this job has {asked}"
        raise InvalidArgument.field(field, description, reason=Reason.LIMIT_EXCEEDED)
