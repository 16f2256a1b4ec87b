"""A proxy between an S3 client and its server that harms what it passes on, on loopback."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("500", "503", "refused", "reset", "truncated", "cut", "corrupt", "stalled")
"""An answer of the server's: 500 and 503, nothing at all, half of it and a reset, half of it and an end, half of it and
a length that says so, one bit changed, half of it and then nothing for long."""


class Proxy:
    """Each request takes the next of `faults`, or `always`; None lets it through, at `rate` bytes a second if set."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.faults: deque[str | None] = deque()
        self.always: str | None = None
        self.rate: float | None = None
        self.requests: list[tuple[str, str]] = []
        self.sent = 0
        """Bytes of bodies."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    proxy.pass_on(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def pass_on(self, client: BaseHTTPRequestHandler) -> None:
        fault = self.faults.popleft() if self.faults else self.always
        self.requests.append((client.command, client.path))
        body = bytearray(client.rfile.read(int(client.headers.get("Content-Length", 0))))
        if fault == "refused":
            return end(client, reset=True)
        if fault in ("500", "503"):
            client.send_response(int(fault))
            client.send_header("Content-Length", "0")
            client.end_headers()
            return None
        if fault == "corrupt" and body:
            body[len(body) // 2] ^= 1
            fault = None
        server = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port)
        with contextlib.closing(server):
            server.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
            for name, value in client.headers.items():
                if name.lower() not in ("expect", "connection"):
                    server.putheader(name, value)
            server.endheaders(bytes(body) or None)
            answer = server.getresponse()
            self.answer(client, answer, bytearray(answer.read()), fault)

    def answer(
        self, client: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, body: bytearray, fault: str | None
    ) -> None:
        half = len(body) // 2
        if fault == "corrupt" and body:
            body[half] ^= 1
        whole = answer.getheader("Content-Length") if client.command == "HEAD" else len(body)
        client.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                client.send_header(name, value)
        client.send_header("Content-Length", str(half if fault == "cut" else whole))
        client.end_headers()
        self.write(client, body if fault in (None, "corrupt") else body[:half])
        if fault == "stalled":
            time.sleep(120)
        if fault in ("reset", "truncated", "stalled"):
            end(client, reset=fault == "reset")

    def write(self, client: BaseHTTPRequestHandler, body: bytearray) -> None:
        step = len(body) if self.rate is None else max(1, int(self.rate / 50))
        for start in range(0, len(body), step or 1):
            client.wfile.write(body[start : start + step])
            self.sent += len(body[start : start + step])
            if self.rate:
                time.sleep(step / self.rate)


def end(client: BaseHTTPRequestHandler, reset: bool) -> None:
    client.close_connection = True
    client.wfile.flush()
    if reset:
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.connection.close()
    else:
        client.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    threading.Thread(target=proxy.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
