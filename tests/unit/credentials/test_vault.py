import asyncio
import datetime as dt
import ipaddress
import secrets
import ssl
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.credentials.errors import CredentialError, SourceError
from gateway.credentials.sources import FileSource
from gateway.credentials.vault import VaultAppRole, VaultSource, VaultToken
from gateway.domain.secret import Secret
from tests.unit.credentials.vault_server import VaultServer


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer() as server:
        server.kv["secret/quantum/ibm-eu"] = {"value": secrets.token_urlsafe(24), "crn": "crn:v1"}
        yield server


@pytest.fixture
def token_file(vault: VaultServer, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(vault.token)
    return path


@pytest.fixture
def secret_id_file(vault: VaultServer, tmp_path: Path) -> Path:
    path = tmp_path / "secret_id"
    path.write_text(vault.secret_id)
    return path


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vault of a test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


async def test_a_field_is_read_with_a_token(vault: VaultServer, token_file: Path) -> None:
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)))
    assert (await source.load()).reveal() == vault.kv["secret/quantum/ibm-eu"]["value"]
    other = VaultSource(
        vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)), field="crn", namespace="team"
    )
    assert (await other.load()).reveal() == "crn:v1"
    assert "team" in vault.namespaces


async def test_a_field_of_another_mount_is_read(vault: VaultServer, token_file: Path) -> None:
    vault.kv["kv-team/ibm eu"] = {"value": "x"}
    source = VaultSource(vault.address, "ibm eu", auth=VaultToken(FileSource(token_file)), mount="kv-team")
    with pytest.raises(SourceError, match="no field"):  # the space reaches the server quoted, and is another path there
        await source.load()
    vault.kv["kv-team/ibm%20eu"] = {"value": "x"}
    assert (await source.load()).reveal() == "x"


async def test_a_renewed_token_is_used_at_once(vault: VaultServer, token_file: Path) -> None:
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)))
    await source.load()
    vault.tokens = {secrets.token_urlsafe(16)}
    with pytest.raises(SourceError, match="Vault refuses"):
        await source.load()
    token_file.write_text(vault.token)  # noqa: ASYNC240
    await source.load()


async def test_an_approle_signs_in_once_and_again_when_its_token_is_over(
    vault: VaultServer, secret_id_file: Path
) -> None:
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultAppRole(vault.role_id, FileSource(secret_id_file)))
    loaded = await asyncio.gather(*(source.load() for _ in range(5)))
    assert {secret.reveal() for secret in loaded} == {vault.kv["secret/quantum/ibm-eu"]["value"]}
    assert vault.calls == {"sign in": 1, "read": 5}
    vault.tokens.clear()
    await source.load()
    assert vault.calls == {"sign in": 2, "read": 7}


async def test_a_wrong_secret_id_is_told_and_not_repeated(vault: VaultServer, secret_id_file: Path) -> None:
    wrong = secrets.token_urlsafe(16)
    secret_id_file.write_text(wrong)  # noqa: ASYNC240
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultAppRole(vault.role_id, FileSource(secret_id_file)))
    with pytest.raises(SourceError, match="role id and secret id") as caught:
        await source.load()
    assert wrong not in "".join(traceback.format_exception(caught.value))


async def test_a_new_version_is_noticed(vault: VaultServer, token_file: Path) -> None:
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)), poll_interval=0.01)
    changes = source.changes()
    await anext(changes)
    value = secrets.token_urlsafe(24)
    vault.kv["secret/quantum/ibm-eu"] = {"value": value}
    async with asyncio.timeout(10):
        await anext(changes)
    assert await source.load() == Secret(value)


@pytest.mark.parametrize("path", ["quantum/none", "quantum/ibm-us"])
async def test_a_secret_that_is_not_there_is_named(vault: VaultServer, token_file: Path, path: str) -> None:
    source = VaultSource(vault.address, path, auth=VaultToken(FileSource(token_file)))
    with pytest.raises(SourceError, match=f"secret/{path}"):
        await source.load()


@pytest.mark.parametrize("data", [{}, {"other": "x"}, {"value": ""}, {"value": 7}, {"value": None}])
async def test_a_secret_without_text_in_the_field_is_told(
    vault: VaultServer, token_file: Path, data: dict[str, object]
) -> None:
    vault.kv["secret/quantum/ibm-eu"] = data
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)))
    with pytest.raises(SourceError, match="no text in"):
        await source.load()


@pytest.mark.parametrize("status", [200, 204, 400, 403, 404, 418, 429, 500, 502, 503])
@pytest.mark.parametrize("body", [b"", b"<html>TOKEN</html>", b'{"errors": ["TOKEN"]}', b"[]", b'{"data": null}'])
async def test_whatever_is_answered_becomes_an_error_without_the_token(
    vault: VaultServer, token_file: Path, status: int, body: bytes
) -> None:
    vault.answer = status, b"" if status == 204 else body.replace(b"TOKEN", vault.token.encode())
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)))
    with pytest.raises(SourceError, match="quantum/ibm-eu") as caught:
        await source.load()
    assert vault.token not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("body", [b"", b"[]", b'{"auth": null}', b'{"auth": {"client_token": ""}}'])
async def test_a_sign_in_without_a_token_is_an_error(vault: VaultServer, secret_id_file: Path, body: bytes) -> None:
    vault.answer = 200, body
    source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultAppRole(vault.role_id, FileSource(secret_id_file)))
    with pytest.raises(SourceError, match="quantum/ibm-eu"):
        await source.load()


async def test_a_redirection_does_not_carry_the_token_elsewhere(vault: VaultServer, token_file: Path) -> None:
    with VaultServer() as elsewhere:
        vault.redirect = elsewhere.address
        source = VaultSource(vault.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)))
        with pytest.raises(SourceError):
            await source.load()
        assert not elsewhere.calls


async def test_a_vault_that_is_away_is_told(vault: VaultServer, token_file: Path) -> None:
    with VaultServer() as gone:
        pass
    source = VaultSource(gone.address, "quantum/ibm-eu", auth=VaultToken(FileSource(token_file)))
    with pytest.raises(SourceError, match=gone.address):
        await source.load()


async def test_the_certificate_is_checked(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with VaultServer(context) as vault:
        vault.kv["secret/ibm"] = {"value": "x"}
        (tmp_path / "token").write_text(vault.token)
        auth = VaultToken(FileSource(tmp_path / "token"))
        with pytest.raises(SourceError, match="ca_file"):
            await VaultSource(vault.address, "ibm", auth=auth).load()
        assert not vault.calls
        assert (await VaultSource(vault.address, "ibm", auth=auth, ca_file=certificate).load()).reveal() == "x"


@pytest.mark.parametrize(
    "address",
    ["http://vault.example.com:8200", "vault.example.com", "", "ftp://127.0.0.1", "https://", "https://u:p@vault"],
)
def test_an_address_without_tls_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="address of Vault"):
        VaultSource(address, "ibm", auth=VaultToken(FileSource(tmp_path / "token")))


def test_a_missing_file_of_authorities_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"none\.pem"):
        VaultSource(
            "https://vault", "ibm", auth=VaultToken(FileSource(tmp_path / "token")), ca_file=tmp_path / "none.pem"
        )


def test_without_hvac_one_is_told_what_to_install() -> None:
    program = textwrap.dedent(
        """
        import importlib.abc, importlib.util, sys
        from pathlib import Path

        sys.path_importer_cache.clear()
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "hvac" else real(name, *rest)
        from gateway.credentials.errors import SourceError
        from gateway.credentials.sources import FileSource
        from gateway.credentials.vault import VaultSource, VaultToken

        assert "hvac" not in sys.modules
        try:
            VaultSource("https://vault", "ibm", auth=VaultToken(FileSource(Path("token"))))
        except SourceError as error:
            print(error)
        """
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "qgateway-server[vault]" in output
