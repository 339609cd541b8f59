"""Tokens against an issuer with a real web server."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.access import signing_keys
from gateway.access.signing_keys import KeySetFile, KeySetUnusable, KeySetUrl, SigningKeys
from gateway.access.tokens import Tokens
from gateway.config_callers import IssuerSettings
from gateway.domain.access import Role
from gateway.domain.errors import Reason, Unauthenticated, Unavailable
from tests.support.token_issuer import AUDIENCE, TokenIssuer, token_issuer


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    with token_issuer() as issuer:
        yield issuer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_keys, "_MIN_PAUSE", 0.05)


@asynccontextmanager
async def accepting(issuer: TokenIssuer, **fields: Any) -> AsyncIterator[Tokens]:
    settings = IssuerSettings(
        **{"issuer": issuer.name, "audience": AUDIENCE, "jwks_url": issuer.jwks_url, "leeway": 0.0, **fields}
    )
    tokens = Tokens([settings.build()])
    yield tokens
    for each in tokens.issuers:
        await each.keys.close()


async def refusal(tokens: Tokens, token: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await tokens.authenticate(token)
    return caught.value


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_token_names_its_bearer(issuer: TokenIssuer, algorithm: str) -> None:
    issuer.new_key("second", algorithm)
    async with accepting(issuer, tenant="physics", role="viewer", algorithms=(algorithm,)) as tokens:
        token = issuer.token(seconds=100)
        caller = await tokens.authenticate(token)
        assert (caller.name, caller.tenant, caller.role) == ("ada", "physics", Role.VIEWER)
        assert caller.expires_at == pytest.approx(time.time() + 100, abs=5)
        assert await tokens.authenticate(token) is caller
        assert issuer.fetches == 1


async def test_what_one_bearer_shows_is_one_credential(issuer: TokenIssuer) -> None:
    async with accepting(issuer) as tokens:
        shown = (token := issuer.token(), f"{token}==", issuer.token(seconds=900))
        callers = [await tokens.authenticate(each) for each in shown]
        assert len({caller.credential for caller in callers}) == 1, "limits of a credential could be got round"
        assert callers[0].credential != (await tokens.authenticate(issuer.token(sub="bob"))).credential


async def test_claims_say_tenant_and_role(issuer: TokenIssuer) -> None:
    fields = {
        "name_claim": "user.email",
        "tenant_claim": "https://lab.example/team",
        "role_claim": "realm_access.roles",
        "roles": {"quantum-read": Role.VIEWER, "quantum-run": Role.SUBMITTER, "quantum-admin": Role.OPERATOR},
    }
    right: dict[str, Any] = {
        "user": {"email": "ada@lab.example"},
        "https://lab.example/team": "chemistry",
        "realm_access": {"roles": ["staff", "quantum-read", "quantum-run"]},
    }
    async with accepting(issuer, **fields) as tokens:
        caller = await tokens.authenticate(issuer.token(**right))
        assert (caller.name, caller.tenant, caller.role) == ("ada@lab.example", "chemistry", Role.SUBMITTER)
        wrong: list[dict[str, Any]] = [
            {"user": "ada"},
            {"user": {"email": ["ada"]}},
            {"user": {"email": "a\nb"}},
            {"https://lab.example/team": "Not A Name"},
            {"https://lab.example/team": None},
            {"realm_access": {"roles": ["staff"]}},
            {"realm_access": {"roles": {"quantum-run": True}}},
            {"realm_access": None},
        ]
        for claims in wrong:
            assert (await refusal(tokens, issuer.token(**{**right, **claims}))).reason is Reason.TOKEN_INVALID


async def test_each_kind_of_wrong_token_has_its_reason(issuer: TokenIssuer) -> None:
    public = issuer.private_keys["first"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": issuer.name, "aud": AUDIENCE, "sub": "ada", "exp": time.time() + 600}

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    right = issuer.token()
    head, body, signature = right.split(".")
    forged = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(claims)}"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(forged.encode(), pem)
    async with accepting(issuer) as tokens:
        for token, reason in (
            (issuer.token(seconds=-1), Reason.TOKEN_EXPIRED),
            (issuer.token(iss="https://sso.elsewhere.example"), Reason.TOKEN_ISSUER_UNKNOWN),
            (issuer.token(iss=None), Reason.TOKEN_ISSUER_UNKNOWN),
            (f"{head}.{part({**claims, 'iss': [issuer.name]})}.{signature}", Reason.TOKEN_ISSUER_UNKNOWN),
            (issuer.token(aud="another-service"), Reason.TOKEN_INVALID),
            (issuer.token(aud=None), Reason.TOKEN_INVALID),
            (issuer.token(exp=None), Reason.TOKEN_INVALID),
            (issuer.token(exp="soon"), Reason.TOKEN_INVALID),
            (issuer.token(nbf=time.time() + 100), Reason.TOKEN_INVALID),
            (issuer.token(sub=None), Reason.TOKEN_INVALID),
            (issuer.token(headers={"kid": "unknown"}), Reason.TOKEN_INVALID),
            (f"{head}.{part({**claims, 'sub': 'root'})}.{signature}", Reason.TOKEN_INVALID),
            (f"{head}.{body}.{signature[:-8]}AAAAAAAA", Reason.TOKEN_INVALID),
            (f"{part({'alg': 'none', 'kid': 'first'})}.{part(claims)}.", Reason.TOKEN_INVALID),
            (f"{forged}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}", Reason.TOKEN_INVALID),
            (f"{part({'alg': 'RS256', 'kid': 'first'})}.{part(claims)}.{signature}", Reason.TOKEN_INVALID),
            (f"{head}.{part('[' * 6000)}.{signature}", Reason.TOKEN_INVALID),
            ("eyJ.." + "x" * 20_000, Reason.TOKEN_INVALID),
            ("eyJ..", Reason.TOKEN_INVALID),
        ):
            error = await refusal(tokens, token)
            assert error.reason is reason, (token, error.message)
            assert "API key" in error.message or "new one" in error.message
            assert signature not in error.message
        assert (await tokens.authenticate(right)).name == "ada"


async def test_endless_and_nested_claims_do_no_harm(issuer: TokenIssuer) -> None:
    async with accepting(issuer) as tokens:
        assert (await tokens.authenticate(issuer.token(exp=10**300))).expires_at is not None
        for exp in (float("inf"), float("nan")):
            assert (await refusal(tokens, issuer.token(exp=exp))).reason is Reason.TOKEN_INVALID
        deep = base64.urlsafe_b64encode(b"[" * 9_000).rstrip(b"=").decode()
        head, _, signature = issuer.token().split(".")
        assert (await refusal(tokens, f"{head}.{deep}.{signature}")).reason is Reason.TOKEN_INVALID
        assert (await refusal(tokens, f"{deep}.{deep}.{signature}")).reason is Reason.TOKEN_INVALID


_TOKENS = Tokens([IssuerSettings(issuer="a", audience="b", jwks_file=Path("/nonexistent")).build()])


@given(st.text(max_size=50), st.binary(max_size=200), st.binary(max_size=200))
def test_made_up_tokens_are_refused_and_break_nothing(tail: str, header: bytes, payload: bytes) -> None:
    parts = [base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in (header, payload)]
    for token in (f"eyJ{tail}", f"{parts[0]}.{parts[1]}.{tail}"):
        with pytest.raises((Unauthenticated, Unavailable)):
            asyncio.run(_TOKENS.authenticate(token))


async def test_leeway_is_for_clocks_that_differ(issuer: TokenIssuer) -> None:
    async with accepting(issuer, leeway=60.0) as tokens:
        late = await tokens.authenticate(issuer.token(seconds=-30))
        assert late.expires_at == pytest.approx(time.time() + 30, abs=5)
        await tokens.authenticate(issuer.token(nbf=time.time() + 30))
        assert (await refusal(tokens, issuer.token(seconds=-61))).reason is Reason.TOKEN_EXPIRED


async def test_a_token_at_hand_ends_at_its_time_and_with_its_key(issuer: TokenIssuer) -> None:
    async with accepting(issuer) as tokens:
        brief, lasting = issuer.token(seconds=2), issuer.token()
        await tokens.authenticate(brief)
        await tokens.authenticate(lasting)
        await asyncio.sleep(2.1)  # the life of a token is what is tested
        assert (await refusal(tokens, brief)).reason is Reason.TOKEN_EXPIRED
        await tokens.authenticate(lasting)
        issuer.new_key("second")
        issuer.drop_key("first")
        await tokens.authenticate(issuer.token())
        assert (await refusal(tokens, lasting)).reason is Reason.TOKEN_INVALID


async def test_a_new_key_is_fetched_once_for_all_who_wait_for_it(issuer: TokenIssuer) -> None:
    async with accepting(issuer) as tokens:
        await tokens.authenticate(issuer.token())
        issuer.new_key("second")
        callers = await asyncio.gather(*(tokens.authenticate(issuer.token(sub=str(each))) for each in range(200)))
        assert {caller.name for caller in callers} == {str(each) for each in range(200)}
        assert issuer.fetches == 2


async def test_made_up_key_ids_cause_few_fetches_and_hold_nobody_up(issuer: TokenIssuer) -> None:
    async with accepting(issuer) as tokens:
        right = issuer.token()
        await tokens.authenticate(right)
        flood = [tokens.authenticate(issuer.token(headers={"kid": f"made-up-{each}"})) for each in range(500)]
        refused = asyncio.gather(*flood, return_exceptions=True)
        await asyncio.sleep(0)
        await tokens.authenticate(right)
        assert not refused.done()
        assert {type(outcome) for outcome in await refused} == {Unauthenticated}
        assert issuer.fetches <= 3


async def test_an_issuer_that_is_down_leaves_its_keys_in_use(issuer: TokenIssuer) -> None:
    async with accepting(issuer) as tokens:
        await tokens.authenticate(issuer.token())
        issuer.answer = lambda request: request.send_error(503)
        assert (await tokens.authenticate(issuer.token(sub="bob"))).name == "bob"
        assert (await refusal(tokens, issuer.token(headers={"kid": "new"}))).reason is Reason.TOKEN_INVALID


async def test_an_issuer_that_never_answered_is_unavailable(issuer: TokenIssuer) -> None:
    issuer.answer = lambda request: request.send_error(503)
    async with accepting(issuer) as tokens:
        with pytest.raises(Unavailable) as caught:
            await tokens.authenticate(issuer.token())
        assert caught.value.reason is Reason.TOKEN_KEYS_UNAVAILABLE
        issuer.answer = issuer.publish
        await tokens.authenticate(issuer.token())


async def test_keys_are_refreshed_in_the_background(issuer: TokenIssuer) -> None:
    keys = SigningKeys(KeySetUrl(issuer.jwks_url), 0.05)
    running = asyncio.create_task(keys.run())
    async with asyncio.timeout(20):
        while keys.generation < 1:
            await asyncio.sleep(0.01)
        issuer.new_key("second")
        while keys.generation < 2:
            await asyncio.sleep(0.01)
    fetches = issuer.fetches
    assert await keys.find("second") is not None
    assert issuer.fetches <= fetches + 1
    running.cancel()
    await keys.close()


async def test_keys_can_come_from_a_file(issuer: TokenIssuer, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(issuer.jwks())
    async with accepting(issuer, jwks_url=None, jwks_file=path) as tokens:
        await tokens.authenticate(issuer.token())
        issuer.new_key("second")
        path.write_bytes(issuer.jwks())
        await tokens.authenticate(issuer.token())
    assert issuer.fetches == 0
    with pytest.raises(KeySetUnusable, match="cannot be read"):
        KeySetFile(tmp_path / "none").load()


def _redirect(request: BaseHTTPRequestHandler) -> None:
    request.send_response(302)
    request.send_header("Location", "/elsewhere")
    request.end_headers()


def _flood(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(b" " * 1_000_000)


def _drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(200):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def _fall_silent(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "10")
    request.end_headers()
    request.wfile.flush()
    request.connection.settimeout(20)
    request.rfile.read(1)  # until the client leaves


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (_redirect, "HTTP 302"),
        (_flood, "more than 262144 bytes"),
        (_drip, "took longer than"),
        (_fall_silent, "cannot be reached"),
    ],
)
def test_a_web_server_in_trouble_is_left_in_time(
    issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch, trouble: Any, words: str
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):  # the client leaves
            trouble(request)

    issuer.answer = answer
    monkeypatch.setattr(signing_keys, "_FETCH_SECONDS", 0.5)
    monkeypatch.setattr(signing_keys, "_SILENCE_SECONDS", 0.3)
    with pytest.raises(KeySetUnusable, match=words):
        KeySetUrl(issuer.jwks_url).load()
    assert issuer.fetches == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [1]}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256"}]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_key_set_is_not_used(content: bytes) -> None:
    with pytest.raises(KeySetUnusable):
        signing_keys._parse(content)


def test_a_key_of_an_unknown_kind_does_not_spoil_its_set(issuer: TokenIssuer) -> None:
    published = json.loads(issuer.jwks())
    published["keys"].insert(0, {"kty": "EC", "crv": "of-tomorrow", "kid": "new"})
    published["keys"].append({**published["keys"][1], "use": "enc", "kid": "for-encryption"})
    assert set(signing_keys._parse(json.dumps(published).encode())) == {"first"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"jwks_url": "http://sso.lab.example/jwks"},
        {"jwks_url": "file:///etc/passwd"},
        {"jwks_url": "https://sso.lab.example/jwks", "jwks_file": "/jwks.json"},
        {"jwks_file": "/jwks.json", "algorithms": ["HS256"]},
        {"jwks_file": "/jwks.json", "algorithms": ["none"]},
        {"jwks_file": "/jwks.json", "algorithms": []},
        {"jwks_file": "/jwks.json", "role_claim": "roles"},
        {"jwks_file": "/jwks.json", "roles": {"a": "viewer"}},
        {"jwks_file": "/jwks.json", "issuer": " "},
    ],
)
def test_wrong_settings_of_an_issuer_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IssuerSettings(**{"issuer": "https://sso.lab.example", "audience": AUDIENCE, **fields})
