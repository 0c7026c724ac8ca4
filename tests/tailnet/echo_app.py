"""An app that responds with what it received and with its environment; it takes the flags of Moltis."""

from __future__ import annotations

import argparse
import http.server
import json
import os


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers every request with its details; ``number`` counts the requests so far."""

    protocol_version = "HTTP/1.1"
    number = 0

    def do_GET(self) -> None:
        """Answer any path."""
        Echo.number += 1
        told = {
            "number": Echo.number,
            "path": self.path,
            "peer": self.client_address[0],
            "headers": [[name.lower(), text] for name, text in self.headers.items()],
            "environ": dict(os.environ),
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Log nothing."""


def main() -> None:
    """Listen on the address from the flags."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bind", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--no-tls", action="store_true")
    parser.add_argument("--json-logs", action="store_true")
    options = parser.parse_args()
    with http.server.ThreadingHTTPServer((options.bind, options.port), Echo) as server:
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
