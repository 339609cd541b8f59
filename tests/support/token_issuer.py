"""An issuer of tokens: real signatures, and its public keys on a real web server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.leaks import WATCH

AUDIENCE = "qgateway"
_ALGORITHMS: dict[str, tuple[Callable[[], Any], type[Any]]] = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
    "PS256": (lambda: rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, jwt.algorithms.OKPAlgorithm),
}


class TokenIssuer:
    """Signs tokens, and publishes its keys at `jwks_url`.

    Args:
        name: The claim `iss`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.jwks_url = ""
        self.fetches = 0
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.publish
        """What the web server does; others stand for one in trouble."""
        self.private_keys: dict[str, tuple[str, Any]] = {}
        self._signs_with = ""

    def new_key(self, key_id: str, algorithm: str = "ES256") -> None:
        """Sign with a new key from now on, and publish it beside those before."""
        self.private_keys[key_id] = (algorithm, _ALGORITHMS[algorithm][0]())
        self._signs_with = key_id

    def drop_key(self, key_id: str) -> None:
        """Publish a key no longer."""
        del self.private_keys[key_id]

    def jwks(self) -> bytes:
        """Return the public keys."""
        keys = []
        for key_id, (algorithm, key) in tuple(self.private_keys.items()):
            entry = json.loads(_ALGORITHMS[algorithm][1].to_jwk(key.public_key()))
            keys.append({**entry, "kid": key_id, "alg": algorithm, "use": "sig"})
        return json.dumps({"keys": keys}).encode()

    def token(self, *, seconds: float = 600, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token. A claim that is None is left out."""
        now = time.time()
        complete = {"iss": self.name, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + seconds, **claims}
        algorithm, key = self.private_keys[self._signs_with]
        token = jwt.encode(
            {name: value for name, value in complete.items() if value is not None},
            key,
            algorithm,
            headers={"kid": self._signs_with, **(headers or {})},
        )
        WATCH.canaries.plant("a token of a caller", token)
        return token

    def publish(self, request: BaseHTTPRequestHandler) -> None:
        """Answer with the keys."""
        body = self.jwks()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@contextmanager
def token_issuer(name: str = "https://sso.lab.example") -> Iterator[TokenIssuer]:
    """Run an issuer with one key."""
    issuer = TokenIssuer(name)
    issuer.new_key("first")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetches += 1
            issuer.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.jwks_url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
