"""Properties of our own readers and writers, on inputs that hypothesis thinks of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from qgateway.v1 import job_service_pb2

from gateway.domain.redaction import redact
from gateway.domain.wire import WireError, field_head, fields
from gateway.engine.tokens import ResumeTokens, page_token, read_page_token
from gateway.workers.frames import PREFIX, decode, encode_head

EXAMPLES = settings(derandomize=True, deadline=None, max_examples=200)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.binary(max_size=300)), max_size=20))
def test_fields_that_were_written_are_read_again(written: list[tuple[int, bytes]]) -> None:
    message = b"".join(field_head(number, len(content)) + content for number, content in written)
    assert [(field.number, bytes(field.content)) for field in fields(memoryview(message))] == written


@EXAMPLES
@given(st.binary(max_size=200))
def test_fields_of_any_bytes_that_can_be_read_are_all_of_them(message: bytes) -> None:
    try:
        found = list(fields(memoryview(message)))
    except WireError:
        return
    assert b"".join(field.whole for field in found) == message


@EXAMPLES
@given(st.builds(job_service_pb2.UploadProgramRequest, data=st.binary(max_size=500), sha256=st.binary(max_size=40)))
def test_every_message_that_protobuf_writes_is_read(message: job_service_pb2.UploadProgramRequest) -> None:
    found = {field.number: bytes(field.content) for field in fields(memoryview(message.SerializeToString()))}
    assert found.get(job_service_pb2.UploadProgramRequest.DATA_FIELD_NUMBER, b"") == message.data


@EXAMPLES
@given(
    st.dictionaries(st.text().filter(lambda name: name != "blobs"), JSON, max_size=5), st.lists(st.binary(), max_size=4)
)
def test_a_frame_is_read_as_it_was_written(header: dict[str, object], blobs: list[bytes]) -> None:
    head = encode_head(header, blobs)
    header_size, payload_size = PREFIX.unpack(head[: PREFIX.size])
    assert header_size == len(head) - PREFIX.size
    assert payload_size == sum(map(len, blobs))
    assert decode(head[PREFIX.size :], b"".join(blobs)) == (header, tuple(blobs))


@EXAMPLES
@given(st.integers(0, 2**63 - 1), st.binary())
def test_tokens_are_read_as_they_were_made(number: int, arguments: bytes) -> None:
    tokens = ResumeTokens(b"key")
    assert tokens.read(tokens.token(number)) == number
    assert read_page_token(page_token(number, arguments), arguments) == number


@EXAMPLES
@given(st.text(alphabet=st.characters(codec="utf-8")), st.text("abcXYZ019_-", min_size=20, max_size=60), st.text())
def test_a_key_is_found_in_any_text_and_a_second_look_finds_nothing(before: str, secret: str, after: str) -> None:
    once = redact(f"{before} qgw_{secret} {after}")
    assert secret not in once.replace(before, "").replace(after, "")
    assert redact(once) == once
