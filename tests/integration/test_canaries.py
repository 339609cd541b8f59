"""Secrets of every kind are planted, and looked for in all that a gateway tells or leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from qgateway.v1 import account_service_pb2, admin_service_pb2, admin_service_pb2_grpc, job_pb2

from gateway.credentials.seal_key import SealKey
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.authority import Authority
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.leaks import WATCH
from tests.support.processes import family, places
from tests.support.token_issuer import AUDIENCE, token_issuer
from tests.support.waiting import wait_until
from tests.support.wire import BELL, Wire
from tests.unit.credentials.vault_server import VaultServer

KINDS = {
    "the key of the caller",
    "an API key that the gateway made",
    "a key of the provider",
    "a token of the provider",
    "a token of a caller",
    "a private key of TLS",
    "what proves the gateway to Vault",
    "a token of Vault",
    "what credentials.seal_key_file names",
    "the store's key 'api_keys'",
    "the store's key 'resume_tokens'",
}
FLIP = 'OPENQASM 3.0; include "stdgates.inc"; bit c; x $0; c = measure $0;'


def test_no_secret_of_any_kind_gets_out(
    emulator: EmulatorProcess, control: EmulatorControl, new_gateway: Callable[..., GatewayProcess], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    authority = Authority(keys)
    certificate, tls_key = authority.issue("server")
    seal_key, sealed, vault_proof = keys / "seal.key", keys / "keys.sealed", keys / "proof.vault"
    seal_key.write_text(SealKey.generate().reveal())
    seal(emulator.api_key("alpha"), sealed, seal_key)
    with VaultServer() as vault, token_issuer() as issuer:
        vault.kv["secret/quantum/lab"] = {"value": emulator.api_key("beta")}
        vault_proof.write_text(vault.secret_id)
        in_vault = {
            "address": vault.address,
            "path": "quantum/lab",
            "role_id": vault.role_id,
            "secret_id_file": str(vault_proof),
        }
        gateway = new_gateway(
            {
                "SERVER__TLS__CERTIFICATE": str(certificate),
                "SERVER__TLS__KEY": str(tls_key),
                "CREDENTIALS__SEALED_FILE": str(sealed),
                "CREDENTIALS__SEAL_KEY_FILE": str(seal_key),
                "ACCESS__ISSUERS": json.dumps(
                    [{"issuer": issuer.name, "audience": AUDIENCE, "jwks_url": issuer.jwks_url, "tenant": "dev"}]
                ),
                "ACCOUNTS": json.dumps(
                    {
                        "local": {"provider": "local"},
                        "alpha": ibm_account(emulator, "alpha", key_sealed="alpha"),
                        "beta": ibm_account(emulator, "beta", key_vault=in_vault),
                    }
                ),
            }
        ).start()
        # What goes wrong is told, too: a refused token, a broken answer, a key service that fails.
        control.fault("GET /backends", "respond", status=401, times=1)
        control.fault("GET /backends", "garble", times=2, skip=1)
        control.fault("POST /identity/token", "respond", status=500, times=1, skip=2)
        with grpc.secure_channel(gateway.target, authority.channel_credentials()) as channel:
            made = life(channel, gateway.api_key, issuer.token(), issuer.token(seconds=-600))
            planted = {text.strip() for text in (gateway.api_key, made, seal_key.read_text(), vault.secret_id)}
            planted |= {emulator.api_key("alpha"), emulator.api_key("beta"), *vault.tokens, *control.tokens()}
            workers = family(gateway.pid)[1:]
            assert workers
            assert {pid: places(pid, planted) for pid in workers} == {pid: [] for pid in workers}
            assert places(gateway.pid, planted) == ["memory"], "the search of memory does not work"
    gateway.stop()
    assert '"level": "debug"' in gateway.log
    assert WATCH.canaries.kinds() >= KINDS
    for canary in (canary.encode() for canary in planted):
        assert WATCH.canaries.in_data("nowhere", canary), "it is not looked for"
    # What this test was told and what the gateway left is searched behind it, as behind every test. Beside that, what it exports:
    exported = subprocess.run(
        [sys.executable, "-m", "gateway", "audit", "export"],
        env=os.environ | {"GATEWAY_STORE__PATH": str(gateway.database)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(exported.splitlines()) > 10


def life(channel: grpc.Channel, api_key: str, token: str, old_token: str) -> str:
    """Do what callers do, right and wrong. Returns the key that was made for one of them."""
    wire = Wire(channel, api_key)
    taken = []

    def attempt(call: Callable[[], object]) -> bool:
        """Make a call; return whether it succeeded."""
        try:
            call()
        except grpc.RpcError:
            return False
        return True

    def submit(*arguments: str, **fields: Any) -> job_pb2.Job:
        taken.append(wire.submit(*arguments, **fields))
        return taken[-1]

    admin = admin_service_pb2_grpc.AdminServiceStub(channel)
    new_key = admin_service_pb2.ApiKey(display_name="x", tenant="dev", roles=[admin_service_pb2.ROLE_SUBMITTER])
    created = admin.CreateApiKey(admin_service_pb2.CreateApiKeyRequest(api_key=new_key), metadata=wire.metadata)
    for bearer in (api_key, created.secret, token, old_token, f"{api_key}x", api_key[:-1], f"{token}x"):
        caller = Wire(channel, bearer)
        attempt(lambda caller=caller: caller.list())
        attempt(lambda caller=caller: caller.submit(BELL, display_name="mine", tags=["a"]))
        attempt(lambda caller=caller: caller.submit("no program", "local_simulator"))
    for account in ("local", "alpha", "beta"):
        backend, source = ("local_simulator", BELL) if account == "local" else ("ibm_alder", FLIP)
        options = job_pb2.RunOptions(shots=10)
        fields = {"account": f"accounts/{account}", "options": options}
        # The provider's broken answers may be met here: the gateway asks again by itself.
        wait_until(
            lambda source=source, backend=backend, fields=fields: attempt(lambda: submit(source, backend, **fields))
        )
        job = taken[-1]
        attempt(lambda job=job: list(wire.watch(job.name)))
        attempt(lambda job=job: wire.result(job.name))
    listing = account_service_pb2.ListAccountsRequest()
    attempt(lambda: wire.accounts.ListAccounts(listing, metadata=wire.metadata, timeout=20))
    attempt(
        lambda: admin.ReloadCredentials(
            admin_service_pb2.ReloadCredentialsRequest(), metadata=wire.metadata, timeout=30
        )
    )
    attempt(lambda: admin.ListApiKeys(admin_service_pb2.ListApiKeysRequest(), metadata=wire.metadata, timeout=20))
    attempt(
        lambda: admin.ListAuditRecords(admin_service_pb2.ListAuditRecordsRequest(), metadata=wire.metadata, timeout=20)
    )
    return created.secret


def seal(key: str, sealed: Path, seal_key: Path) -> None:
    """Put a key into a sealed file."""
    settings = {"GATEWAY_CREDENTIALS__SEALED_FILE": str(sealed), "GATEWAY_CREDENTIALS__SEAL_KEY_FILE": str(seal_key)}
    command = [sys.executable, "-m", "gateway", "credentials", "set", "alpha"]
    subprocess.run(command, input=key, env=os.environ | settings, text=True, check=True)
