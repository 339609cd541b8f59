"""Random requests, made from the descriptors of the contract: some nearly right, some meant to harm."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from random import Random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct, Value

from gateway.engine.tokens import page_token
from tests.fuzzing.openqasm3_programs import mutant, program

_DEEPEST = 6
"""How deep messages are nested, but for Structs, which go to the limit of the format."""

TEXTS = (
    "", " ", "a", "x" * 257, "x" * 5_000, "\0", "a\0b", "\u202e\u2066", "\U0001f600" * 70, "e\u0301" * 50, "İıſ", "\ufffe",
    "'; DROP TABLE jobs; --", "%", "_", "*", "[", "**/*", "?" * 200, "../../etc/passwd", "/", "//", "jobs/", "jobs/-", "-",
    "jobs/../jobs", "accounts/local/backends/", "accounts//backends/x", "accounts/-/providerJobs/-", "sessions/-",
    "null", "true", "1e999", "-0", "9" * 400, "{}", "[]", "${jndi:ldap://x}", "{0.__class__}", "%s%n", "\r\nX: y", "\t",
    "local_simulator", "accounts/local", "backends/local_simulator", "*local*", "display_name", "tags", "AAAA", "=" * 8,
)  # fmt: skip
"""Texts that have broken programs before."""

NUMBERS = (0, 1, -1, 2, 63, 64, 65, 255, 256, 500, 501, 1024, 100_000, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1)
_REALS = (0.0, -0.0, 1.0, math.pi, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan)
_SECONDS = (
    0,
    1,
    -1,
    60,
    1_700_000_000,
    4_102_444_800,
    -62_135_596_800,
    253_402_300_799,
    253_402_300_800,
    2**63 - 1,
    -(2**63),
)
_NANOS = (0, 1, 999_999_999, 1_000_000_000, -1, 2**31 - 1, -(2**31))

_INTEGERS: dict[int, tuple[int, int]] = {
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32), (-(2**31), 2**31)
    ),
    **dict.fromkeys(
        (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64), (-(2**63), 2**63)
    ),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), (0, 2**32)),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), (0, 2**64)),
}

BELL = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;'


class Names:
    """Names of things that are there: what the server has told of, by the name of the field."""

    def __init__(self) -> None:
        self._known: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=200))

    def learn(self, message: Message) -> None:
        """Keep the names and tokens in a response."""
        for descriptor, value in message.ListFields():
            if descriptor.type == FieldDescriptor.TYPE_STRING and isinstance(value, str):
                if descriptor.name in ("name", "etag", "resume_token", "next_page_token", "provider_job_id", "session"):
                    self._known[_kind(descriptor.name, value)].append(value)
            elif descriptor.type == FieldDescriptor.TYPE_MESSAGE and isinstance(value, Message):
                self.learn(value)

    def any(self, random: Random, kind: str = "") -> str:
        """Return one of them: of a kind, if there is one, or else of any kind."""
        kinds = [kind] if self._known.get(kind) else list(self._known)
        return random.choice(self._known[random.choice(kinds)]) if kinds else "jobs/x"


def _kind(field: str, value: str) -> str:
    return value.partition("/")[0] if field == "name" else field


class Requests:
    """Makes random messages.

    Args:
        random: Where chance comes from.
        names: What the server has told of.
        blobs: QPY files and the like, for fields of bytes.
    """

    def __init__(self, random: Random, names: Names, blobs: tuple[bytes, ...] = (b"",)) -> None:
        self._random = random
        self._names = names
        self._blobs = blobs
        self._kind = ""
        self._malice = 0.0

    def wire(self, descriptor: Descriptor, kind: str = "") -> bytes:
        """Return a request as bytes: mostly one message, sometimes two in one, so that a oneof is there twice, sometimes broken.

        Args:
            descriptor: Its type.
            kind: Collection of the things that it is likely to name, such as `jobs`.
        """
        random = self._random
        self._kind, self._malice = kind, random.choice((0.0, 0.02, 0.1, 0.5))
        data = self.message(descriptor).SerializeToString()
        if self._evil() and random.random() < 0.3:
            data += self.message(descriptor).SerializeToString()
        if self._evil() and random.random() < 0.3:
            data = mutated(random, data)
        return data

    def _evil(self) -> bool:
        return self._random.random() < self._malice

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """Return a random message."""
        random = self._random
        made = GetMessageClass(descriptor)()
        special = _SPECIAL.get(descriptor.full_name)
        if special is not None:
            special(self, made)
            return made
        if depth > _DEEPEST:
            return made
        sparse = random.choice((0.1, 0.5, 0.9))
        for field in descriptor.fields:
            if field.name in _NEEDED or (random.random() < sparse and (field.name not in _SELDOM or self._evil())):
                self._set(made, field, depth)
        return made

    def _set(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        random = self._random
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._fill(getattr(made, field.name), field.message_type, depth)
        elif field.is_repeated:
            count = random.choice((0, 1, 1, 2, 3, 70))
            if field.message_type is not None:
                getattr(made, field.name).extend(
                    self.message(field.message_type, depth + 1) for _ in range(min(count, 3))
                )
            else:
                getattr(made, field.name).extend(self._scalar(field) for _ in range(count))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(made, field.name, self._scalar(field))

    def _fill(self, entries: Any, entry: Descriptor, depth: int) -> None:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for _ in range(self._random.choice((0, 1, 2, 20))):
            if value.message_type is not None:
                entries[self._scalar(key)].CopyFrom(self.message(value.message_type, depth + 1))
            else:
                entries[self._scalar(key)] = self._scalar(value)

    def _scalar(self, field: FieldDescriptor) -> Any:
        random = self._random
        if field.type in _INTEGERS:
            low, high = _INTEGERS[field.type]
            if not self._evil():
                return random.choice((1, 1, 2, 10))
            number = random.choice(NUMBERS) if random.random() < 0.7 else random.randrange(low, high)
            return number if low <= number < high else low
        if field.type == FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            known = [value.number for value in field.enum_type.values]
            return random.choice((-1, 99, 2**31 - 1, -(2**31)) if self._evil() else (*known[:2], *known[:2], *known))
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return random.choice(_REALS if self._evil() else (0.0, 0.5, -3.0))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._bytes(field.name)
        return self._text(field.name)

    def _bytes(self, name: str) -> bytes:
        random = self._random
        if name.endswith("sha256"):
            return random.randbytes(random.choice((0, 31, 32, 32, 33)))
        if name == "parameters":
            return mutated(random, random.choice(_JSON))
        blob = random.choice(self._blobs)
        return mutated(random, blob) if self._evil() else blob

    def _text(self, name: str) -> str:
        random = self._random
        if name == "source":
            return self._source()
        if name == "page_token" and random.random() < 0.5:
            return page_token(random.choice((0, 1, 2**63 - 1, 2**63, 2**64 - 1)), random.choice(_LISTINGS))
        if not self._evil():
            if name in _LIKELY:
                return random.choice(_LIKELY[name])
            if name == "name":
                return (
                    "accounts/local/backends/local_noisy_5q"
                    if self._kind == "backends"
                    else self._names.any(random, self._kind)
                )
            if name == "session" and random.random() < 0.8:
                return ""
            if name in ("job", "session", "page_token", "resume_token"):
                return self._names.any(
                    random, {"job": "jobs", "session": "sessions", "page_token": "next_page_token"}.get(name, name)
                )
            return random.choice(("a", "b", "a1", "x-y"))
        if random.random() < 0.2:
            return "".join(
                chr(random.choice((random.randrange(1, 128), random.randrange(0xE000, 0x110000)))) for _ in range(9)
            )
        return random.choice(TEXTS)

    def _source(self) -> str:
        random = self._random
        if not self._evil():
            return BELL
        text = program(random, 3)
        return text if random.random() < 0.5 else mutant(random, text)

    def struct(self, made: Struct) -> None:
        """Fill a Struct, now and then nearly as deep as protobuf reads."""
        random = self._random
        if self._evil():
            value = Value(string_value="deep")
            for _ in range(random.choice((3, 20, 26))):
                outer = Value()
                if random.random() < 0.5:
                    outer.list_value.values.append(value)
                else:
                    outer.struct_value.fields[random.choice(TEXTS)].CopyFrom(value)
                value = outer
            made.fields["x"].CopyFrom(value)
            return
        for _ in range(random.choice((0, 1, 3))):
            kind = random.randrange(5)
            entry = made.fields[random.choice((*TEXTS, "experimental", "max_execution_time"))]
            if kind == 0:
                entry.number_value = random.choice(_REALS) if self._evil() else 1.5
            elif kind == 1:
                entry.string_value = random.choice(TEXTS)
            elif kind == 2:
                entry.list_value.values.extend([Value(bool_value=True), Value()])
            elif kind == 3:
                entry.null_value = 0  # type: ignore[assignment]
            # else: a value that is none of these

    def time(self, made: Any) -> None:
        """Fill a Timestamp or a Duration."""
        made.seconds = self._random.choice(_SECONDS) if self._evil() else 4_102_444_800
        made.nanos = self._random.choice(_NANOS) if self._evil() else 0

    def mask(self, made: FieldMask) -> None:
        """Fill a FieldMask."""
        likely = (
            ("*", "job.tags", "name", "", ".", "a.b.c", "TAGS", "tags.x", "é")
            if self._evil()
            else ("display_name", "tags")
        )
        made.paths.extend(self._random.choice(likely) for _ in range(self._random.choice((1, 1, 2, 30))))


_SPECIAL: dict[str, Any] = {
    "google.protobuf.Struct": Requests.struct,
    "google.protobuf.Timestamp": Requests.time,
    "google.protobuf.Duration": Requests.time,
    "google.protobuf.FieldMask": Requests.mask,
}
_LIKELY = {
    "backend": ("local_simulator", "local_simulator", "local_noisy_5q"),
    "account": ("", "accounts/local", "local"),
    "accounts": ("local",),
    "backends": ("local_simulator",),
    "tenant": ("dev", "", "other"),
    "etag": ("",),
    "tags": ("a", "b"),
}
_NEEDED = frozenset(
    ("program", "openqasm", "circuits", "source", "backend", "name", "job", "update_mask", "session", "api_key")
)
"""Fields without which few requests are worth much."""
_SELDOM = frozenset(
    (
        "page_token",
        "resume_token",
        "program_sha256",
        "sha256",
        "qpy",
        "raw",
        "skip",
        "bindings",
        "provider_options",
        "rep_delay",
        "meas_level",
        "request_id",
    )
)
"""Fields with which few requests are right."""
_LISTINGS = (b"", b"accounts", b"dev", b"jobs/x")
_JSON = (
    b'{"pubs": [], "shots": 1}', b"[" * 50_000, b'{"a":' * 500, b"1e999", b"NaN", b'"\\ud800"', b"{}", b'{"a":1,"a":2}',
    b"\xff\xfe", b'{"shots": ' + b"9" * 5_000 + b"}", b"",
)  # fmt: skip


def mutated(random: Random, data: bytes) -> bytes:
    """Return bytes with something in them changed."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        place = random.randrange(len(changed) + 1)
        kind = random.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1 and place < len(changed):
            changed[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif kind == 2:
            changed[place:place] = random.randbytes(random.choice((1, 2, 4, 16)))
        elif kind == 3:
            del changed[place : place + random.choice((1, 2, 4, 64))]
        elif kind == 4:
            end = min(len(changed), place + random.choice((4, 8)))
            changed[place:end] = random.choice((b"\xff", b"\x7f\xff", b"\0"))[:1] * (end - place)
        elif random.random() < 0.3:
            del changed[place:]
    return bytes(changed)
