"""The bytes of a sealed file.

    magic     8 bytes   "qgwseal" and a line feed
    format    2 bytes   1; all numbers are big-endian
    key id   16 bytes   which key opens the file
    length    4 bytes   of what follows
    body      12 bytes of nonce, then AES-256-GCM of a JSON document, bound to everything before it

The document lists the entries; the secret of each is sealed once more, bound to the entry's name and version. So nothing can be
read or changed without the key, entries cannot be swapped, and a secret is in the clear only while it is asked for. What the
format cannot tell is that the whole file was exchanged for an older one.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gateway.credentials.errors import NotASealedFile, Tampered, Truncated, UnknownFormat, WrongSealKey
from gateway.credentials.seal_key import OVERHEAD_BYTES, Forged, SealKey
from gateway.domain.secret import Secret

_MAGIC = b"qgwseal\n"
_FORMAT = 1
_HEAD = struct.Struct(">8sH16sI")


@dataclass(frozen=True, slots=True)
class Entry:
    """What may be known of a secret in a sealed file."""

    name: str
    version: int
    """1 for the first secret of that name, one more with each new one."""
    created_at: datetime
    """When the first version was set."""
    changed_at: datetime
    """When this version was set."""


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry with its secret, which only the key can open."""

    entry: Entry
    sealed: bytes

    @classmethod
    def seal(cls, entry: Entry, secret: Secret, key: SealKey) -> SealedEntry:
        """Seal a secret."""
        return cls(entry, key.seal(secret.reveal().encode(), _bound(entry)))

    def open(self, key: SealKey) -> Secret:
        """Return the secret.

        Raises:
            Forged: The key is not the right one, or the secret is not the one of this entry.
        """
        return Secret(key.open(self.sealed, _bound(self.entry)).decode())


def pack(entries: Iterable[SealedEntry], key: SealKey) -> bytes:
    """Return the bytes of a sealed file."""
    document = json.dumps([_to_json(entry) for entry in entries]).encode()
    head = _HEAD.pack(_MAGIC, _FORMAT, key.id, len(document) + OVERHEAD_BYTES)
    return head + key.seal(document, head)


def unpack(content: bytes, key: SealKey, file: str) -> tuple[SealedEntry, ...]:
    """Return the entries of a sealed file.

    Args:
        content: The bytes of the file.
        key: The key that it was sealed with.
        file: How errors name the file.

    Raises:
        NotASealedFile: It is something else.
        UnknownFormat: It is of a format that this gateway does not know.
        Truncated: Its end is missing.
        WrongSealKey: It was sealed with another key.
        Tampered: It is not what `pack` made.
    """
    if not content.startswith(_MAGIC[: len(content)]):
        raise NotASealedFile(f"The {file} is not a sealed file of this gateway.")
    truncated = Truncated(f"The {file} is cut off. Put a copy from before in its place.")
    if len(content) < _HEAD.size:
        raise truncated
    magic, number, key_id, length = _HEAD.unpack_from(content)
    if number != _FORMAT:
        raise UnknownFormat(
            f"The {file} has format {number}, and this gateway reads format {_FORMAT}. Use the version that wrote the file."
        )
    sealed = content[_HEAD.size :]
    if len(sealed) < length:
        raise truncated
    tampered = Tampered(
        f"The {file} was changed by something other than the gateway. Put a copy from before in its place."
    )
    try:
        # Bound to the id of the key at hand, not to the id in the file: so a wrong id in a file that this very key opens is
        # told from a wrong key.
        document = key.open(sealed, _HEAD.pack(magic, number, key.id, length))
    except Forged:
        if key_id != key.id:
            raise WrongSealKey(f"The {file} was sealed with another key than the one given.") from None
        raise tampered from None
    if key_id != key.id:
        raise tampered
    return tuple(_from_json(entry) for entry in json.loads(document))


def _bound(entry: Entry) -> bytes:
    return b"%d:%s" % (entry.version, entry.name.encode())


def _to_json(sealed: SealedEntry) -> dict[str, str | int]:
    entry = sealed.entry
    return {
        "name": entry.name,
        "version": entry.version,
        "created_at": entry.created_at.isoformat(),
        "changed_at": entry.changed_at.isoformat(),
        "sealed": base64.b64encode(sealed.sealed).decode(),
    }


def _from_json(values: dict[str, str | int]) -> SealedEntry:
    entry = Entry(
        name=str(values["name"]),
        version=int(values["version"]),
        created_at=datetime.fromisoformat(str(values["created_at"])),
        changed_at=datetime.fromisoformat(str(values["changed_at"])),
    )
    return SealedEntry(entry, base64.b64decode(str(values["sealed"])))
