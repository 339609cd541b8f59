"""What is taken out of texts that leave the process."""

from __future__ import annotations

import gc
import json

import pytest

from gateway.access.api_keys import new_api_key
from gateway.domain.errors import FieldViolation, GatewayError
from gateway.domain.redaction import MASK, redact
from gateway.domain.secret import Secret

SHAPES = {
    "a key of the gateway": new_api_key(),
    "a token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ",
    "a token of Vault": "hvs.CAESIJlWh2Y-7T0zN0pX",
    "a bearer token": "0123456789abcdef0123456789abcdef",
}


@pytest.mark.parametrize(("name", "planted"), SHAPES.items())
def test_what_looks_like_a_credential_is_masked_wherever_it_stands(name: str, planted: str) -> None:
    for text in (
        f"before Bearer {planted} after",
        f'{{"authorization": "bearer {planted}"}}',
        f"Authorization: Bearer {planted}",
    ):
        assert planted not in redact(text)
        assert MASK in redact(text)


def test_a_private_key_is_masked_also_where_its_lines_are_escaped() -> None:
    body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n{body}\n-----END PRIVATE KEY-----\n"
    for text in (pem, json.dumps({"key": pem}), pem.replace("PRIVATE", "EC PRIVATE"), pem[:90]):
        assert body not in redact(text)


@pytest.mark.parametrize("text", ["s3cret-of-no-shape", 'with "quotes" and \\ and ünïcode', "line\nbreak"])
def test_the_text_of_a_secret_is_masked_for_as_long_as_somebody_holds_it(text: str) -> None:
    secret = Secret(text)
    assert redact(f"<{text}>") == f"<{MASK}>"
    assert json.loads(redact(json.dumps([text]))) == [MASK]
    del secret
    gc.collect()
    assert redact(f"<{text}>") == f"<{text}>"


def test_of_two_equal_secrets_one_is_enough() -> None:
    kept, gone = Secret("twice-the-same"), Secret("twice-the-same")
    del gone
    gc.collect()
    assert redact("twice-the-same") == MASK
    assert kept


def test_other_texts_stay_as_they_are() -> None:
    for text in (
        "",
        "the key qgw_abcdefghjkmn was revoked",
        "Bearer of news",
        "basic authentication",
        "eyJ",
        "job 0f3c9a",
        "options.shots: at most 100",
    ):
        assert redact(text) == text


def test_an_error_carries_no_secret_whoever_makes_it() -> None:
    secret = Secret("error-canary-of-no-shape")
    text = f"the provider says: key {secret.reveal()} is wrong"
    error = GatewayError(text, metadata={"key": text}, violations=[FieldViolation("key", text)])
    assert secret.reveal() not in f"{error} {error!r} {error.message} {error.metadata} {error.violations}"


@pytest.mark.parametrize("unit", ["eyJ", "a.eyJ", "eyJaaaaaa.", "qgw_", "hvs.a", "bearer a", "-----BEGIN "])
def test_texts_that_nearly_look_like_credentials_are_looked_through_once_however_long(unit: str) -> None:
    text = (
        unit * (3_000_000 // len(unit)) + " eyJ PRIVATE KEY"
    )  # to look through it from each of its places takes hours
    assert redact(text).endswith("PRIVATE KEY")
