"""Secrets of every kind are planted, and looked for in all that a gateway tells or leaves behind."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import zstandard
from qgateway.v1 import account_service_pb2, admin_service_pb2, admin_service_pb2_grpc, job_pb2

from gateway.credentials.seal_key import SealKey
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.authority import Authority
from tests.support.canaries import Canaries
from tests.support.gateway_process import GatewayProcess
from tests.support.ibm_accounts import ibm_account
from tests.support.processes import family
from tests.support.token_issuer import AUDIENCE, token_issuer
from tests.support.waiting import wait_until
from tests.support.wire import BELL, Wire
from tests.unit.credentials.vault_server import VaultServer

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
                "LOG__LEVEL": "debug",
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
            told, made = life(channel, gateway.api_key, issuer.token(), issuer.token(seconds=-600))
            canaries = Canaries(
                {
                    "the key of the caller": gateway.api_key,
                    "a key that the gateway made": made,
                    "a key of the provider, sealed": emulator.api_key("alpha"),
                    "a key of the provider, in Vault": emulator.api_key("beta"),
                    "the seal key": seal_key.read_text().strip(),
                    "the private key of TLS": tls_key.read_text().splitlines()[1],
                    "what proves the gateway to Vault": vault.secret_id,
                    **{f"a token of Vault {index}": token for index, token in enumerate(vault.tokens)},
                    **{f"a token of the provider {index}": token for index, token in enumerate(control.tokens())},
                    "a token of a caller": issuer.token().rpartition(".")[0],
                }
            )
            workers = family(gateway.pid)[1:]
            assert workers
            assert canaries.in_processes(workers, memory=True) == []
            assert canaries.in_processes([gateway.pid], memory=False) == []
            assert canaries.in_processes([gateway.pid], memory=True), "the search of processes does not work"
    gateway.stop()
    assert '"level": "debug"' in gateway.log
    assert canaries.in_data("what callers were told", "\n".join(told)) == []
    assert canaries.in_folder(tmp_path, leave_out=keys.iterdir()) == []
    assert canaries.in_folder(keys), "the search of files does not work"


def life(channel: grpc.Channel, api_key: str, token: str, old_token: str) -> tuple[list[str], str]:
    """Do what callers do, right and wrong. Returns all that they were told, and the key that was made for one of them."""
    wire = Wire(channel, api_key)
    told = []

    taken = []

    def tell(call: Callable[[], object]) -> bool:
        """Note what a call told; return whether it succeeded."""
        try:
            told.append(str(call()))
        except grpc.RpcError as error:
            told.append(f"{error.code()} {error.details()} {error.trailing_metadata()} {error.debug_error_string()}")
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
        tell(lambda caller=caller: caller.list())
        tell(lambda caller=caller: caller.submit(BELL, display_name="mine", tags=["a"]))
        tell(lambda caller=caller: caller.submit("no program", "local_simulator"))
    for account in ("local", "alpha", "beta"):
        backend, source = ("local_simulator", BELL) if account == "local" else ("ibm_alder", FLIP)
        options = job_pb2.RunOptions(shots=10)
        fields = {"account": f"accounts/{account}", "options": options}
        # The provider's broken answers may be met here: the gateway asks again by itself.
        wait_until(
            lambda source=source, backend=backend, fields=fields: tell(lambda: submit(source, backend, **fields))
        )
        job = taken[-1]
        tell(lambda job=job: list(wire.watch(job.name)))
        tell(lambda job=job: wire.result(job.name))
    listing = account_service_pb2.ListAccountsRequest()
    tell(lambda: wire.accounts.ListAccounts(listing, metadata=wire.metadata, timeout=20))
    tell(
        lambda: admin.ReloadCredentials(
            admin_service_pb2.ReloadCredentialsRequest(), metadata=wire.metadata, timeout=30
        )
    )
    tell(lambda: admin.ListApiKeys(admin_service_pb2.ListApiKeysRequest(), metadata=wire.metadata, timeout=20))
    tell(
        lambda: admin.ListAuditRecords(admin_service_pb2.ListAuditRecordsRequest(), metadata=wire.metadata, timeout=20)
    )
    return told, created.secret


def seal(key: str, sealed: Path, seal_key: Path) -> None:
    """Put a key into a sealed file."""
    settings = {"GATEWAY_CREDENTIALS__SEALED_FILE": str(sealed), "GATEWAY_CREDENTIALS__SEAL_KEY_FILE": str(seal_key)}
    command = [sys.executable, "-m", "gateway", "credentials", "set", "alpha"]
    subprocess.run(command, input=key, env=os.environ | settings, text=True, check=True)


@pytest.mark.parametrize("form", ["plain", "base64", "url", "compressed in a table", "text in a table"])
def test_the_search_finds_what_is_planted(tmp_path: Path, form: str) -> None:
    canaries = Canaries({"it": "planted/with+odd=characters"})
    text = "planted/with+odd=characters"
    if form.endswith("table"):
        packed = zstandard.compress(b"x" * 5_000 + text.encode() * 3) if form.startswith("compressed") else text
        with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
            database.execute("CREATE TABLE payloads (id, data)")
            database.execute("INSERT INTO payloads VALUES (1, ?)", (packed,))
    else:
        written = {
            "plain": text,
            "base64": base64.b64encode(f"user:{text}, and more".encode()).decode(),
            "url": urllib.parse.quote(text, safe=""),
        }[form]
        (tmp_path / "a.log").write_text(f"before {written} behind")
    assert canaries.in_folder(tmp_path)
    assert Canaries({"another": "something-that-is-not-there"}).in_folder(tmp_path) == []
