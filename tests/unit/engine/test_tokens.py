import pytest

from gateway.domain.errors import InvalidArgument, Reason
from gateway.engine.tokens import page_token, read_page_token, read_resume_token, resume_token


@pytest.mark.parametrize("revision", [0, 1, 255, 2**40, 2**63])
def test_a_resume_token_gives_its_revision_back(revision: int) -> None:
    assert read_resume_token(resume_token(revision)) == revision


@pytest.mark.parametrize("token", ["x", "####", "AAAA", "Ümlaut", resume_token(7)[:-2], page_token(7, b"")])
def test_a_broken_resume_token_is_an_invalid_argument(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_resume_token(token)
    assert caught.value.reason is Reason.INVALID_RESUME_TOKEN
    assert caught.value.violations[0].field == "resume_token"


def test_a_page_token_is_good_only_for_the_listing_it_was_made_for() -> None:
    token = page_token(42, b"all jobs")
    assert read_page_token(token, b"all jobs") == 42
    with pytest.raises(InvalidArgument) as caught:
        read_page_token(token, b"my jobs")
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN


@pytest.mark.parametrize("token", ["x", "####", resume_token(7), "é"])
def test_a_broken_page_token_is_an_invalid_argument(token: str) -> None:
    with pytest.raises(InvalidArgument):
        read_page_token(token, b"")
