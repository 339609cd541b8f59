"""The search for secrets finds what is planted: in every form, in every place, of every kind."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import secrets
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import requests
import zstandard
from qgateway import _translate
from qgateway._errors import GatewayCallError

from gateway.access.api_keys import new_api_key
from gateway.config import Settings
from gateway.credentials.seal_key import SealKey
from tests.support import remains
from tests.support.authority import Authority
from tests.support.canaries import Canaries
from tests.support.gateway_process import GatewayProcess
from tests.support.leaks import WATCH, LeakWatch, holds_secret
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
ODD = 'planted/with+odd=characters and "quotes" \\ and more'
TEXTS = [
    pytest.param(ODD.encode(), id="odd"),
    pytest.param(b"kX3vT-9_" * 6, id="token"),
    pytest.param(bytes(range(200, 248)), id="bytes"),
]
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda text: text,
    "base64": lambda text: base64.b64encode(b"user:" + text + b", and more"),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(b"x" + text),
    "hexadecimal": lambda text: text.hex().encode(),
    "hexadecimal capitals": lambda text: text.hex().upper().encode(),
    "in a URL": lambda text: urllib.parse.quote(text, safe="").encode(),
    "in JSON": lambda text: json.dumps({"a": text.decode("latin-1")}).encode(),
    "as Python shows it": lambda text: repr(text).encode(),
    "its beginning": lambda text: text[:16],
    "its end": lambda text: text[-16:],
    "a long part": lambda text: text[5:40],
}


@pytest.fixture
def canary() -> str:
    """A secret that is planted for as long as the test lasts."""
    text = secrets.token_urlsafe(32)
    WATCH.canaries.plant("the planted secret", text)
    return text


def found() -> list[str]:
    """Return what the watch has found, so that the test does not fail by it."""
    WATCH.look()
    return WATCH.take()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "text", [ODD.encode(), secrets.token_urlsafe(32).encode(), bytes(range(200, 248))], ids=["odd", "token", "bytes"]
)
def test_a_secret_is_found_however_it_is_written(form: str, text: bytes) -> None:
    canaries = Canaries()
    canaries.plant("it", text)
    canaries.plant("another", secrets.token_urlsafe(32))
    (leak,) = canaries.in_data("there", b"before " + FORMS[form](text) + b" behind")
    assert (leak.kind, leak.where) == ("it", "there")
    assert "test_a_secret_is_found" in leak.planted_by
    assert text.decode("latin-1") not in str(leak)
    assert canaries.in_data("there", FORMS[form](secrets.token_bytes(48))) == []


def test_what_is_public_of_a_secret_is_not_looked_for() -> None:
    canaries = Canaries()
    key, token = new_api_key(), jwt.encode({"sub": "ada"}, "s" * 32, headers={"kid": "a"})
    canaries.plant("a key", key)
    canaries.plant("a token", token)
    assert canaries.in_data("there", key[:17] + " " + token.partition(".")[0]) == []
    assert [leak.kind for leak in canaries.in_data("there", key[17:])] == ["a key"]
    assert [leak.kind for leak in canaries.in_data("there", token.rpartition(".")[2])] == ["a token"]


def test_secrets_are_found_everywhere_but_at_home_and_until_they_are_forgotten() -> None:
    canaries, text = Canaries(), secrets.token_urlsafe(32)
    mark = canaries.mark()
    canaries.plant("it", text, homes=["home"])
    assert canaries.in_data("home", text) == []
    assert canaries.in_data("elsewhere", text)
    canaries.forget(mark)
    assert canaries.in_data("elsewhere", text) == []
    canaries.plant("it", text, lasting=True)
    canaries.forget(mark)
    assert canaries.in_data("elsewhere", text)


def in_log(folder: Path, text: str) -> None:
    (folder / "gateway.log").write_text("x" * 100_000 + text)


def in_table(folder: Path, value: object) -> None:
    (folder / "store").mkdir()
    with closing(sqlite3.connect(folder / "store" / "a.db")) as database, database:
        database.execute("CREATE TABLE payloads (id, data)")
        database.execute("INSERT INTO payloads VALUES (1, ?)", (value,))


LEFT: dict[str, Callable[[Path, str], object]] = {
    "a log": in_log,
    "a file that nobody knows": lambda folder, text: (folder / "traces.bin").write_bytes(b"\0" + text.encode()),
    "a compressed file": lambda folder, text: (folder / "a.gz").write_bytes(gzip.compress(text.encode())),
    "a compressed result": lambda folder, text: (folder / "a").write_bytes(zstandard.compress(text.encode() * 3)),
    "a table": in_table,
    "a table, in two pages": lambda folder, text: in_table(folder, "x" * 4_080 + text),
    "a table, in base64": lambda folder, text: in_table(folder, base64.b64encode(b"abcd" + text.encode())),
    "a table, compressed": lambda folder, text: in_table(folder, zstandard.compress(b"x" * 5_000 + text.encode() * 3)),
}


@pytest.mark.parametrize("place", LEFT)
def test_a_secret_is_found_in_what_is_left_behind(place: str, tmp_path: Path, canary: str) -> None:
    LEFT[place](tmp_path, canary)
    assert remains.in_folder(WATCH.canaries, tmp_path)
    assert remains.in_folder(Canaries(), tmp_path) == []
    assert remains.in_folder(WATCH.canaries, tmp_path, [tmp_path]) == []


def test_a_gateway_that_leaks_is_told_with_the_place_and_without_the_secret(tmp_path: Path, canary: str) -> None:
    gateway = GatewayProcess(tmp_path).start()
    with (tmp_path / "gateway.log").open("a") as log:
        log.write(f"{gateway.api_key}\n")
    told = found()
    assert [text for text in told if "the key of the caller is in" in text and "gateway.log" in text]
    assert gateway.stop() == 0
    with closing(sqlite3.connect(gateway.database)) as database, database:
        (key,) = database.execute("SELECT value FROM keys WHERE name = 'resume_tokens'").fetchone()
        database.execute("UPDATE marks SET name = ?", (f"{canary} {key.hex()}",))
    told += found()
    assert [text for text in told if "the planted secret" in text and "marks.name" in text]
    assert [text for text in told if "the store's key 'resume_tokens'" in text and "marks.name" in text]
    assert [text for text in told if "keys.value" in text] == []
    assert not any(secret in text for text in told for secret in (canary, gateway.api_key, key.hex()))


def test_a_secret_is_found_in_processes_and_in_what_they_serve(canary: str) -> None:
    server = (
        "import http.server, sys, os\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        self.wfile.write(os.environ['MINE'].encode() if self.path == '/metrics' else b'')\n"
        "    def log_message(self, *_): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), H)\n"
        "print(flush=True)\n"
        "server.serve_forever()\n"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {server!r}, sys.argv[1]])"
    command = [sys.executable, "-c", parent, canary]
    with subprocess.Popen(command, env=os.environ | {"MINE": canary}, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            (child,) = remains.children(process.pid)
            places = {leak.where for leak in remains.in_process(WATCH.canaries, child)}
            assert places == {f"the cmdline of process {child}", f"the environ of process {child}"}
            (leak,) = remains.at_ports(WATCH.canaries, child)
            assert leak.where.startswith("/metrics at port ")
            os.kill(child, 9)
        finally:
            process.kill()


class Leaky(grpc.GenericRpcHandler):
    """Answers, or fails, with what it is sent; the last letter of the method says where to put it."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if details.method.endswith("Detail"):
                context.abort(grpc.StatusCode.INTERNAL, request.decode())
            if details.method.endswith("Trailer"):
                context.set_trailing_metadata((("status-bin", request),))
                context.abort(grpc.StatusCode.INTERNAL, "")
            return request

        def answers(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield answer(request, context)

        if "Stream" in details.method:
            return grpc.unary_stream_rpc_method_handler(answers)
        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def leaky() -> Iterator[str]:
    """A server that says what it should not."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Leaky()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    "method",
    ["/x/UnaryAnswer", "/x/UnaryDetail", "/x/UnaryTrailer", "/x/StreamAnswer", "/x/StreamDetail", "/x/StreamTrailer"],
)
@pytest.mark.parametrize("client", ["blocking", "future", "aio"])
async def test_a_secret_is_found_in_answers_and_errors(client: str, method: str, leaky: str, canary: str) -> None:
    stream = "Stream" in method
    try:
        if client == "aio":
            async with grpc.aio.insecure_channel(leaky) as channel:
                call = (channel.unary_stream if stream else channel.unary_unary)(method)(canary.encode())
                assert [part async for part in call] if stream else await call
        else:
            with grpc.insecure_channel(leaky) as channel:
                rpc: Any = (channel.unary_stream if stream else channel.unary_unary)(method)
                if stream:
                    assert list(rpc(canary.encode()))
                else:
                    assert rpc(canary.encode()) if client == "blocking" else rpc.future(canary.encode()).result()
    except grpc.RpcError:
        assert not method.endswith("Answer")
    told = wait_until(found)  # the end of a call is heard in a thread of its own
    assert all(text.startswith("the planted secret is in") and method in text for text in told)


def test_credentials_that_callers_show_and_keys_that_are_made_are_planted(leaky: str) -> None:
    shown, made = new_api_key(), new_api_key()
    with grpc.insecure_channel(leaky) as channel:
        metadata = (("authorization", f"Bearer {shown}"),)
        assert channel.unary_unary("/x/CreateApiKey")(made.encode(), metadata=metadata)
    assert found() == [], "the answer is meant to hold it"
    assert [leak.kind for leak in WATCH.canaries.in_data("", shown)] == ["an API key of a caller"]
    assert [leak.kind for leak in WATCH.canaries.in_data("", made)] == ["an API key that the gateway made"]


def test_a_secret_is_found_in_commands_logs_exceptions_and_telemetry(canary: str) -> None:
    subprocess.run([sys.executable, "-c", f"print('{canary}')"], capture_output=True, check=True)
    assert "the output of a command" in found()[0]
    logging.getLogger("qgateway.anything").debug("it is %s", canary)
    assert "the log of qgateway.anything" in found()[0]
    error = _translate.service_call("")(GatewayCallError(canary))
    assert "an exception, pickled" in " ".join(found()), error
    endpoint = GatewayProcess.telemetry["OTEL_EXPORTER_OTLP_ENDPOINT"]
    requests.post(f"{endpoint}/v1/traces", data=gzip.compress(canary.encode()), timeout=5).close()
    assert "telemetry for /v1/traces" in found()[0]


def test_what_settings_refer_to_is_planted(tmp_path: Path) -> None:
    watch, seal_key = LeakWatch(), SealKey.generate().reveal()
    authority = Authority(tmp_path)
    _, tls_key = authority.issue("server")
    files = {name: tmp_path / name for name in ("alpha", "proof")}
    for path in files.values():
        path.write_text(f"{secrets.token_urlsafe(32)}\n")
    in_vault = {"address": "http://127.0.0.1:1", "role_id": "gateway", "secret_id_file": str(files["proof"])}
    watch.plant_settings(
        {
            "GATEWAY_SEAL_KEY": seal_key,
            "GATEWAY_SERVER__TLS__KEY": str(tls_key),
            "GATEWAY_ACCOUNTS__ALPHA__KEY_FILE": str(files["alpha"]),
            "GATEWAY_ACCOUNTS": json.dumps({"beta": {"key_vault": in_vault}, "gamma": {"key_env": "GAMMA"}}),
            "GAMMA": "the-key-of-gamma-4711",
        }
    )
    for text in (seal_key, *(path.read_text().strip() for path in files.values()), "the-key-of-gamma-4711"):
        assert watch.canaries.in_data("nowhere", text)
    lines = tls_key.read_text().splitlines()
    assert watch.canaries.in_data("nowhere", lines[2])
    assert watch.canaries.in_data("nowhere", lines[0] + lines[1][:40]) == [], "this is in every key"


def test_no_setting_that_refers_to_a_secret_is_forgotten() -> None:
    """Who adds a setting with a secret must name it so that it is planted, or say here that it is none."""
    no_secrets = {
        "credentials.sealed_file",
        "accounts.*.key_sealed",
        "accounts.*.key_vault",
        "access.issuers.*.jwks_file",
    }
    about_secrets = {
        name
        for name in _settings(Settings.model_json_schema())
        if any(word in name.rpartition(".")[2] for word in ("key", "token", "secret", "password", "seal", "jwks_file"))
    }
    plural = {"access.api_keys"}
    assert {name for name in about_secrets if not holds_secret(name)} - plural == no_secrets
    assert {name for name in about_secrets if holds_secret(name)} >= {
        "server.tls.key",
        "credentials.seal_key_file",
        "access.api_keys.*.key_env",
        "access.api_keys.*.key_file",
        "accounts.*.key_file",
        "accounts.*.key_env",
        "accounts.*.key_vault.token_env",
        "accounts.*.key_vault.token_file",
        "accounts.*.key_vault.secret_id_env",
        "accounts.*.key_vault.secret_id_file",
    }


def _settings(schema: dict[str, Any], part: dict[str, Any] | None = None, path: str = "") -> Iterator[str]:
    """Yield the path of every setting; `*` stands for an entry of a list or a dictionary."""
    part = schema if part is None else part
    if "$ref" in part:
        yield from _settings(schema, schema["$defs"][part["$ref"].rpartition("/")[2]], path)
    for choice in (*part.get("anyOf", ()), *part.get("oneOf", ())):
        yield from _settings(schema, choice, path)
    for inner in (part.get("items"), part.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from _settings(schema, inner, f"{path}.*")
    for name, inner in part.get("properties", {}).items():
        yield f"{path}.{name}".removeprefix(".")
        yield from _settings(schema, inner, f"{path}.{name}".removeprefix("."))


def test_a_leak_fails_the_test_that_made_it(tmp_path: Path) -> None:
    test = tmp_path / "test_leaky.py"
    test.write_text(
        "def test_it(new_gateway):\n"
        "    gateway = new_gateway().start()\n"
        "    print('KEY', gateway.api_key)\n"
        "    with (gateway.folder / 'left.txt').open('w') as file:\n"
        "        file.write(gateway.api_key)\n"
        "def test_another():\n"
        "    pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, "-p", "tests.conftest", "-p", "no:cacheprovider", str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    WATCH.take()
    key = next(line for line in done.stdout.splitlines() if "KEY" in line).rpartition(" ")[2]
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert "ERROR at teardown of test_it" in done.stdout
    assert "the key of the caller is in" in done.stdout
    assert "left.txt" in done.stdout
    assert done.stdout.count(key) == 1, "the report tells the secret"
