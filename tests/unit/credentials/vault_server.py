"""An HTTP server with the few routes of Vault that the gateway uses: AppRole sign-in, and reading from KV version 2."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.leaks import WATCH


class VaultServer:
    """Runs on loopback in a thread of its own, from `with` to its end.

    Args:
        tls: Certificate to show; None: plain HTTP.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tokens = {secrets.token_urlsafe(16)}
        self.role_id = secrets.token_urlsafe(16)
        self.secret_id = secrets.token_urlsafe(16)
        self.kv: dict[str, dict[str, Any]] = {}
        """Data of each secret, by `MOUNT/PATH`."""
        self.calls: Counter[str] = Counter()
        self.namespaces: set[str | None] = set()
        self.answer: tuple[int, bytes] | None = None
        """If set, the answer to every request."""
        self.redirect: str | None = None
        """If set, where every request is sent on to."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def token(self) -> str:
        return next(iter(self.tokens))

    def __enter__(self) -> Self:
        for proof in (self.token, self.secret_id):
            WATCH.canaries.plant("what proves the gateway to Vault", proof)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _read(self, path: str, token: str | None) -> tuple[int, Any]:
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        mount, _, rest = path.removeprefix("/v1/").partition("/data/")
        data = self.kv.get(f"{mount}/{rest}")
        if data is None:
            return 404, {"errors": []}
        return 200, {"data": {"data": data, "metadata": {"version": 1, "deletion_time": "", "destroyed": False}}}

    def _sign_in(self, body: dict[str, str]) -> tuple[int, Any]:
        if (body.get("role_id"), body.get("secret_id")) != (self.role_id, self.secret_id):
            return 400, {"errors": [f"invalid role or secret ID: {body.get('secret_id')}"]}
        token = secrets.token_urlsafe(16)
        self.tokens.add(token)
        WATCH.canaries.plant("a token of Vault", token)
        return 200, {"auth": {"client_token": token, "lease_duration": 1200, "renewable": True}}

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.calls["read"] += 1
                self._reply(*server._read(self.path, self.headers.get("X-Vault-Token")))

            def do_POST(self) -> None:
                server.calls["sign in"] += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                known = self.path == "/v1/auth/approle/login"
                self._reply(*(server._sign_in(body) if known else (404, {"errors": []})))

            def _reply(self, status: int, answer: Any) -> None:
                server.namespaces.add(self.headers.get("X-Vault-Namespace"))
                content = json.dumps(answer).encode()
                if server.answer is not None:
                    status, content = server.answer
                if server.redirect is not None:
                    status, content = 307, b""
                self.send_response(status)
                if server.redirect is not None:
                    self.send_header("Location", server.redirect + self.path)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
