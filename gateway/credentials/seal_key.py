"""The key of a sealed file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.credentials.errors import BadSealKey
from gateway.domain.secret import Secret

_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16

OVERHEAD_BYTES = _NONCE_BYTES + _TAG_BYTES
"""How much longer a sealed message is than the plain one."""


class Forged(Exception):
    """A sealed message was not sealed with this key, or is not what was sealed, or belongs elsewhere."""


class SealKey:
    """An AES-256-GCM key.

    Args:
        text: 32 bytes in base64, as `openssl rand -base64 32` prints.

    Raises:
        BadSealKey: It is something else.
    """

    __slots__ = ("_aead", "id")

    def __init__(self, text: Secret) -> None:
        try:
            key = base64.b64decode(text.reveal(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise BadSealKey(
                "The seal key must be 32 bytes in base64. Make one with 'openssl rand -base64 32', and keep it where the "
                "sealed file is not."
            )
        self._aead = AESGCM(key)
        self.id = hashlib.blake2b(key, digest_size=16, person=b"qgw-seal-key-id").digest()
        """16 bytes that tell this key from others, and tell nothing of it."""

    @staticmethod
    def generate() -> Secret:
        """Return a new random key, in base64."""
        return Secret(base64.b64encode(os.urandom(_KEY_BYTES)).decode())

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        """Encrypt a message under a fresh nonce.

        Args:
            plain: The message.
            bound: What the message belongs to: it can be opened only together with the same bytes.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            Forged: It is not what `seal` made with this key and these bound bytes.
        """
        if len(sealed) < OVERHEAD_BYTES:
            raise Forged
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
        except InvalidTag:
            raise Forged from None
