"""The settings of provider accounts: one class per kind of provider, and where their keys are kept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway.config_base import Section

_CRN = re.compile(r"crn:v1:([^:\s]*:){7}[^:\s]*")


class LocalAccountSettings(Section):
    """An account of the local provider: circuits run on this machine, with Aer."""

    provider: Literal["local"]
    """Kind of provider: circuits run on this machine, with Aer."""
    parallel_jobs: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=lambda: os.cpu_count() or 1)
    """Number of jobs that run at a time, each in a process of its own. Default: the number of processors."""
    queue_limit: Annotated[int, Field(ge=1)] = 10_000
    """Most jobs that wait."""
    time_limit: Annotated[float, Field(ge=1)] = 300.0
    """Longest run of a job, in seconds."""
    memory_limit: Annotated[int, Field(ge=256 * 1024 * 1024)] = 4 * 1024**3
    """Most memory of a run, in bytes. It decides how many qubits the ideal simulator has."""
    max_shots: Annotated[int, Field(ge=1)] = 1_000_000
    """Most shots of a circuit."""
    max_circuits: Annotated[int, Field(ge=1)] = 300
    """Most experiments of a job."""
    max_result_bytes: Annotated[int, Field(ge=1024, lt=2**31)] = 1024**3
    """Largest result of a job, in bytes. A job whose outcomes would take more ends in ERROR."""
    metered: bool = False
    """Whether the seconds of runs count in the tenants' budgets of QPU time. Simulations use no QPU: by default they do not."""
    reserved_seconds_per_job: Annotated[float, Field(ge=0)] = 0.0
    """If metered: seconds that a job holds of its tenant's budgets until its charge is known."""
    reserved_seconds_per_shot: Annotated[float, Field(ge=0)] = 0.0
    """If metered: seconds that it holds beside that for each shot of each circuit."""


class VaultKeySettings(Section):
    """A key that is kept in HashiCorp Vault, in a KV engine of version 2. Needs the extra `vault`.

    The gateway signs in with a token, or as an AppRole.
    """

    address: str
    """Base URL of Vault, such as `https://vault.example.com:8200`."""
    path: str
    """Path of the secret inside the engine."""
    field: str = "value"
    """Field of the secret that holds the key."""
    mount: str = "secret"
    """Where the engine is mounted."""
    namespace: str | None = None
    """Namespace, for Vault Enterprise."""
    ca_file: Path | None = None
    """PEM file with the authorities to trust. Default: those of the system."""
    token_env: str | None = None
    """Environment variable with a token of Vault."""
    token_file: Path | None = None
    """Instead of `token_env`: file with a token that somebody renews, such as Vault's agent."""
    role_id: str | None = None
    """Instead of a token: id of the AppRole to sign in as."""
    secret_id_env: str | None = None
    """With `role_id`: environment variable with the secret id."""
    secret_id_file: Path | None = None
    """With `role_id`, instead of `secret_id_env`: file with the secret id."""
    role_mount: str = "approle"
    """With `role_id`: where the auth method is mounted."""
    poll_seconds: Annotated[float, Field(ge=1, le=86_400)] = 60.0
    """Seconds between two looks at whether there is a new key."""

    @model_validator(mode="after")
    def _one_way_in(self) -> VaultKeySettings:
        tokens, secret_ids = (self.token_env, self.token_file), (self.secret_id_env, self.secret_id_file)
        if _number_set(*tokens, self.role_id) != 1:
            raise ValueError("exactly one of token_env, token_file and role_id must be set")
        if _number_set(*secret_ids) != (0 if self.role_id is None else 1):
            raise ValueError("one of secret_id_env and secret_id_file belongs to role_id, and only to it")
        return self


class IbmAccountSettings(Section):
    """An account of IBM Quantum: one instance of the service, and the key that opens it."""

    provider: Literal["ibm"]
    """Kind of provider: an instance of IBM Quantum."""
    crn: str
    """The instance: its CRN, which begins with `crn:v1:`."""
    description: str = "IBM Quantum."
    """What the account is for, for people."""
    key_env: str | None = None
    """Environment variable that holds the API key."""
    key_file: Path | None = None
    """Instead of `key_env`: file that holds the key. A new content takes effect without a restart."""
    key_sealed: str | None = None
    """Instead of `key_env`: name of the key in the sealed file (`gateway credentials set NAME`)."""
    key_vault: VaultKeySettings | None = None
    """Instead of `key_env`: where the key is kept in HashiCorp Vault."""
    program: Literal["executor", "sampler"] = "executor"
    """The provider's program that runs circuits."""
    circuit_format: Literal["qpy17", "qpy18", "openqasm3"] = "qpy17"
    """How circuits are sent. The program `sampler` takes `qpy17` only."""
    fractional_gates: bool = False
    """Whether `rx` and `rzz` are offered; they do not go together with control flow."""
    submits_per_minute: Annotated[float, Field(gt=0, le=60_000)] = 5.0
    """Most jobs that are sent per minute; as many can be sent at once after a rest. More wait in the gateway."""
    shortest_poll: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    """Least seconds between two looks at the pending jobs. A provider that is down is left alone as long, then longer."""
    longest_poll: Annotated[float, Field(ge=0.05, le=3600)] = 60.0
    """Most seconds between two looks at the pending jobs, when nothing is expected and nobody watches, or the provider is down."""
    inline_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Seconds that a submission waits for the provider's answer. After that the caller gets the job as it is, and the hand-over
    goes on. Also: seconds that a caller waits for the list of backends, if the provider never told it before."""
    settle_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 120.0
    """Seconds after a lost reply in which the job can still turn up. It is not sent again before."""
    connect_timeout: Annotated[float, Field(gt=0, le=300)] = 5.0
    """Seconds that a connection may take."""
    read_timeout: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Seconds of silence after which a reply is given up."""
    submit_timeout: Annotated[float, Field(gt=0, le=600)] = 120.0
    """Seconds of silence after which the reply to a new job is given up."""
    max_result_bytes: Annotated[int, Field(ge=1024, lt=2**31)] = 1024**3
    """Largest result of a job, in bytes, as the provider sends it and as it is stored. A job with a larger one ends in ERROR."""
    metered: bool = True
    """Whether the seconds of runs count in the tenants' budgets of QPU time."""
    reserved_seconds_per_job: Annotated[float, Field(ge=0)] = 2.0
    """If metered: QPU seconds that a job holds of its tenant's budgets as long as the provider has given neither an estimate nor a
    charge."""
    reserved_seconds_per_shot: Annotated[float, Field(ge=0)] = 0.0005
    """If metered: QPU seconds that it holds beside that for each shot of each circuit."""
    threads: Annotated[int, Field(ge=1, le=64)] = 8
    """Most calls to the provider at a time."""
    use_environment: bool = True
    """Whether proxies and certificates that the environment names are used."""
    api_url: str | None = None
    """Address of the API with its path, instead of the one of the instance's region."""
    iam_url: str | None = None
    """Address of the identity service, instead of `https://iam.cloud.ibm.com`."""

    @field_validator("crn")
    @classmethod
    def _is_crn(cls, value: str) -> str:
        if not _CRN.fullmatch(value):
            raise ValueError("must be the CRN of an instance, as the provider's page of instances shows it")
        return value

    @field_validator("api_url", "iam_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^\s@]+", value):
            raise ValueError("must be an address that begins with https:// (or http://), without user and password")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> IbmAccountSettings:
        if _number_set(self.key_env, self.key_file, self.key_sealed, self.key_vault) != 1:
            raise ValueError("exactly one of key_env, key_file, key_sealed and key_vault must be set")
        if self.program == "sampler" and self.circuit_format != "qpy17":
            raise ValueError("program = 'sampler' takes circuits as circuit_format = 'qpy17' only")
        if self.shortest_poll > self.longest_poll:
            raise ValueError("shortest_poll must not be longer than longest_poll")
        return self


AccountSettings = Annotated[LocalAccountSettings | IbmAccountSettings, Field(discriminator="provider")]
"""An account of any kind."""


def _number_set(*values: object) -> int:
    return sum(value is not None for value in values)
