"""An https server on this machine, for tests of the downloads of data and weights."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Mirror(ThreadingHTTPServer):
    """Serve /good, /bad (wrong bytes), /whole (no ranges) and /plain (redirects to http)."""

    daemon_threads = True
    files: dict[str, bytes]

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        # shake hands in the thread of the request, not in the one that accepts connections
        self.socket = context.wrap_socket(
            self.socket,
            server_side=True,
            do_handshake_on_connect=False,
        )
        self.files = {}
        self.url = f"https://127.0.0.1:{self.server_port}"
        self.requests: list[tuple[str, str | None, int]] = []  # path, range, bytes sent
        self.cuts: list[int] = []  # each entry cuts one response after that many bytes
        self.hold_at = 0  # hold the first response after that many bytes, until released
        self.held, self.released = threading.Event(), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing when a client is killed."""


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        _, kind, name = self.path.split("/")
        content, asked = self.server.files.get(name), self.headers["Range"]
        if kind == "plain":
            self.answer(302, {"Location": f"http://127.0.0.1:{self.server.server_port}/good/x"})
        elif content is None:
            self.answer(404, {"Content-Length": "0"})
        else:
            content = content[::-1] if kind == "bad" else content
            self.send(content, asked if kind != "whole" else None)

    def send(self, content: bytes, asked: str | None) -> None:
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(content):
            self.answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        headers = {"Content-Length": str(len(content) - start)}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206 if asked else 200, headers)
        body = content[start:][: self.server.cuts.pop(0) if self.server.cuts else None]
        self.server.requests.append((self.path, asked, len(body)))
        hold_at, self.server.hold_at = self.server.hold_at, 0
        self.wfile.write(body[:hold_at])
        if hold_at:
            self.server.held.set()
            self.server.released.wait(120)
        self.wfile.write(body[hold_at:])

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "mirror.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-out", str(path), "-keyout", str(path.with_suffix(".key"))]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def mirror(certificate: Path) -> Iterator[Mirror]:
    server = Mirror(certificate)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
