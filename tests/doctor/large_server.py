"""Answers HTTP, HTTPS and STUN, once a request is complete: large_server.py CERTIFICATE KEY."""

from __future__ import annotations

import http.server
import socket
import ssl
import sys
import threading


class _Answers(http.server.BaseHTTPRequestHandler):
    """Sends an empty response."""

    def do_GET(self) -> None:
        """Send the response."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        """Log nothing."""


class _Secure(http.server.ThreadingHTTPServer):
    """Does the handshake in each connection's thread, since some of them hang."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("", 443), _Answers)
        self._context = context

    def finish_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        """Serve one connection."""
        with self._context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, *_: object) -> None:
        """Do not log aborted connections."""


def main(certificate: str, key: str) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for server in (http.server.ThreadingHTTPServer(("", 80), _Answers), _Secure(context)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stun:
        stun.bind(("", 3478))
        print("ready", flush=True)
        while True:
            request, source = stun.recvfrom(65536)
            stun.sendto(b"\x01\x01\0\0" + request[4:20], source)


if __name__ == "__main__":
    main(*sys.argv[1:])
