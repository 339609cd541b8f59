"""Builds the provider of an account of IBM Quantum, with the source of its key and the cache of its tokens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from gateway.config import CredentialsSettings
from gateway.config_accounts import IbmAccountSettings, VaultKeySettings
from gateway.credentials.sources import EnvironmentSource, FileSource, SealedFileSource, SecretSource, seal_key_source
from gateway.credentials.token_cache import TokenCache
from gateway.credentials.vault import VaultAppRole, VaultSource, VaultToken
from gateway.domain.provider import Provider
from gateway.domain.spool import ResultSpool
from gateway.providers.ibm import (
    IAM_URL,
    CircuitFormat,
    CircuitProgram,
    HealthRecord,
    IamExchange,
    IbmProvider,
    IbmSettings,
)
from gateway.workers import WorkerIbmPayloads, WorkerPool


def ibm_provider(
    name: str,
    account: IbmAccountSettings,
    credentials: CredentialsSettings,
    *,
    pool: WorkerPool,
    spool: ResultSpool,
    parts: AsyncExitStack,
) -> Provider:
    """Return the provider of an account of IBM Quantum, not yet started; arguments and errors as `new_provider`."""
    source = _key_source(account, credentials)
    health = HealthRecord()
    exchange = IamExchange(
        name,
        account.iam_url or IAM_URL,
        connect_timeout=account.connect_timeout,
        use_environment=account.use_environment,
    )
    parts.callback(exchange.close)
    tokens = TokenCache(name, source, exchange, on_health=health.credentials)
    parts.push_async_callback(tokens.close)
    tokens.start()
    settings = IbmSettings(
        account=name,
        crn=account.crn,
        description=account.description,
        api_url=account.api_url or "",
        program=CircuitProgram(account.program),
        circuit_format=CircuitFormat(account.circuit_format),
        fractional_gates=account.fractional_gates,
        threads=account.threads,
        connect_timeout=account.connect_timeout,
        read_timeout=account.read_timeout,
        submit_timeout=account.submit_timeout,
        inline_seconds=account.inline_seconds,
        settle_seconds=account.settle_seconds,
        shortest_outage=account.shortest_poll,
        longest_outage=account.longest_poll,
        max_result_bytes=account.max_result_bytes,
        use_environment=account.use_environment,
    )
    return IbmProvider(settings, tokens, WorkerIbmPayloads(pool), spool, health)


def _key_source(account: IbmAccountSettings, credentials: CredentialsSettings) -> SecretSource:
    if account.key_sealed is not None:
        seal_key = seal_key_source(credentials.seal_key_file)
        return SealedFileSource(credentials.sealed_file, account.key_sealed, seal_key)
    if account.key_vault is not None:
        return _vault_source(account.key_vault)
    return _plain_source(account.key_env, account.key_file)


def _vault_source(vault: VaultKeySettings) -> SecretSource:
    auth: VaultAppRole | VaultToken
    if vault.role_id is not None:
        secret_id = _plain_source(vault.secret_id_env, vault.secret_id_file)
        auth = VaultAppRole(vault.role_id, secret_id, vault.role_mount)
    else:
        auth = VaultToken(_plain_source(vault.token_env, vault.token_file))
    return VaultSource(
        vault.address,
        vault.path,
        auth=auth,
        mount=vault.mount,
        field=vault.field,
        namespace=vault.namespace,
        ca_file=vault.ca_file,
        poll_interval=vault.poll_seconds,
    )


def _plain_source(variable: str | None, file: Path | None) -> SecretSource:
    """Return the one of the two that is set; the settings have made sure that it is one."""
    if file is not None:
        return FileSource(file)
    return EnvironmentSource(variable or "")
