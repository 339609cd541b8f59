import base64

import pytest

from gateway.domain.errors import InvalidArgument, Reason
from gateway.engine.tokens import ResumeTokens, page_token, read_page_token

TOKENS = ResumeTokens(b"k" * 32)
UNSIGNED = "AQAAAAAAAAAH"
"""A token as an earlier version made it: version 1, revision 7."""
FORGED = base64.urlsafe_b64encode(b"\x02" + (8).to_bytes(8) + base64.urlsafe_b64decode(TOKENS.token(7) + "==")[9:])


@pytest.mark.parametrize("revision", [0, 1, 255, 2**40, 2**63])
def test_a_resume_token_gives_its_revision_back(revision: int) -> None:
    assert ResumeTokens(b"k" * 32).read(TOKENS.token(revision)) == revision


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "####",
        "AAAA",
        "Ümlaut",
        TOKENS.token(7)[:-2],
        TOKENS.token(7) + "AAAA",
        page_token(7, b""),
        UNSIGNED,
        FORGED.decode(),
    ],
)
def test_a_broken_resume_token_is_an_invalid_argument(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        TOKENS.read(token)
    assert caught.value.reason is Reason.INVALID_RESUME_TOKEN
    assert caught.value.violations[0].field == "resume_token"


def test_a_page_token_is_good_only_for_the_listing_it_was_made_for() -> None:
    token = page_token(42, b"all jobs")
    assert read_page_token(token, b"all jobs") == 42
    with pytest.raises(InvalidArgument) as caught:
        read_page_token(token, b"my jobs")
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize("token", ["x", "####", TOKENS.token(7), "é"])
def test_a_broken_page_token_is_an_invalid_argument(token: str) -> None:
    with pytest.raises(InvalidArgument):
        read_page_token(token, b"")


def test_a_token_of_another_store_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        ResumeTokens(b"another key").read(TOKENS.token(7))
