"""A TLS server that records what it receives after the handshake: tls_server.py ADDRESS CERTIFICATE KEY FILE."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys


def main(address: str, certificate: str, key: str, asked: str) -> None:
    """Accept connections, one at a time, until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server((address, 443)) as listener:
        print("ready", flush=True)
        while True:
            plain, _ = listener.accept()
            with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secure:
                told = b"handshake\n" + secure.recv(4096)
                with open(asked, "ab") as file:
                    file.write(told)


if __name__ == "__main__":
    main(*sys.argv[1:])
