"""A stand-in for Moltis that behaves as Moltis does towards its supervisor.

Its flags, lines, banner, exit codes, slow TERM and re-exec follow Moltis' own (see README.md beside this file).
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import NoReturn
from urllib.parse import urlsplit

VERSION = "0.0.0-stand-in"
PROTOCOL = 4
SETUP_CODE = "STANDIN7"
PASSWORD_FILE = "stand-in-password"  # noqa: S105 - the name of a file
COLORS = {"TRACE": "35", "DEBUG": "34", "INFO": "32", "WARN": "33", "ERROR": "31"}
RESTART_AFTER_S = 0.3
# The same for all: there is nothing to sign in to.
CHALLENGE = b"a challenge of the stand-in"
PASSKEY_PAGE = """<!doctype html><title>Passkeys</title>
<button id="register">Register</button> <button id="sign-in">Sign in</button> <p role="status"></p>
<script>
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const tell = (words) => document.querySelector("[role=status]").textContent = words;
const id = Uint8Array.from([1, 2, 3, 4]);
const algorithms = [{type: "public-key", alg: -7}];
async function ask(kind) {
  try {
    const begun = await fetch("/passkeys/begin");
    const {rp, challenge, error} = await begun.json();
    if (!begun.ok) return tell(error);
    const given = Uint8Array.from(atob(challenge), (c) => c.charCodeAt(0));
    const user = {id, name: "owner", displayName: "owner"};
    const {response} = kind === "register"
      ? await navigator.credentials.create({publicKey: {
          rp: {id: rp, name: "Moltis"}, user, challenge: given, pubKeyCredParams: algorithms,
          authenticatorSelection: {residentKey: "required"}}})
      : await navigator.credentials.get({publicKey: {rpId: rp, challenge: given}});
    const data = kind === "register" ? response.getAuthenticatorData() : response.authenticatorData;
    const body = JSON.stringify({client: text(response.clientDataJSON), authenticator: text(data)});
    const done = await fetch("/passkeys/" + kind, {method: "POST", body});
    tell((await done.json()).result);
  } catch (error) { tell(String(error)); }
}
for (const kind of ["register", "sign-in"]) document.getElementById(kind).onclick = () => ask(kind);
</script>"""

options: argparse.Namespace
hanging = threading.Event()
writing = threading.Lock()


def log(level: str, message: str, target: str = "moltis_gateway", **fields: object) -> None:
    """Write one line as Moltis' tracing does: text with forced colours, or JSON."""
    now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if options.json_logs:
        line = json.dumps(
            {"timestamp": now, "level": level, "fields": {"message": message, **fields}, "target": target},
            ensure_ascii=False,
        )
    else:
        facts = "".join(f" \x1b[3m{key}\x1b[0m\x1b[2m=\x1b[0m{value}" for key, value in fields.items())
        line = (
            f"\x1b[2m{now}\x1b[0m \x1b[{COLORS[level]}m{level:>5}\x1b[0m "
            f"\x1b[2m{target}\x1b[0m\x1b[2m:\x1b[0m {message}{facts}"
        )
    with writing:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def banner() -> None:
    """Write the banner that precedes the opening of the port."""
    address = f"{options.bind}:{options.port}"
    lines = [f"moltis {VERSION}", f"listening on http://{address}", f"protocol {PROTOCOL}"]
    if not has_password():
        lines.append(f"setup code: {SETUP_CODE}")
    log("INFO", "┌" + "─" * 50)
    for line in lines:
        log("INFO", f"│ {line}")
    log("INFO", "└" + "─" * 50)


def data_folder() -> str:
    """Return the name of the data folder."""
    return options.data_dir or os.environ.get("MOLTIS_DATA_DIR") or os.path.expanduser("~/.moltis")


def set_up() -> None:
    """Keep MOLTIS_PASSWORD unless there is one already, then make the first agent's folder: in Moltis' order."""
    password = os.environ.get("MOLTIS_PASSWORD")
    if not password:
        return
    agent = f"{data_folder()}/agents/main"
    os.makedirs(data_folder(), exist_ok=True)
    if not has_password():
        with open(f"{data_folder()}/{PASSWORD_FILE}", "x") as file:
            file.write(hashlib.sha256(password.encode()).hexdigest())
        log("INFO", "migrating MOLTIS_PASSWORD env var to credential store", target="moltis_gateway::server")
    os.makedirs(agent, exist_ok=True)


def has_password() -> bool:
    """Return whether a password is kept."""
    return os.path.exists(f"{data_folder()}/{PASSWORD_FILE}")


class Memory:
    """The database, like that of Moltis: SQLite in WAL mode in the data folder, created at first use."""

    _tables = ("messages", "passkeys")

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._found: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection:
        if self._found is None:
            folder = data_folder()
            os.makedirs(folder, exist_ok=True)
            found = sqlite3.connect(f"{folder}/moltis.db", check_same_thread=False, isolation_level=None, timeout=5.0)
            found.execute("PRAGMA journal_mode=WAL")
            for table in self._tables:
                found.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
            self._found = found
        return self._found

    def keep(self, table: str, text: str) -> int:
        """Write a row, and return once it is on the disk."""
        with self._one:
            statement = f"INSERT INTO {self._tables[self._tables.index(table)]} (text) VALUES (?)"  # noqa: S608 - as named
            return self._open().execute(statement, (text,)).lastrowid or 0

    def kept(self) -> dict[str, list[str]]:
        """Return every row's text."""
        with self._one:
            found = self._open()
            select = "SELECT text FROM {} ORDER BY id"
            return {table: [text for (text,) in found.execute(select.format(table))] for table in self._tables}


memory = Memory()


class Handler(BaseHTTPRequestHandler):
    """Answers /health and a page, stores rows, and simulates failures on request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Handle a GET."""
        if hanging.is_set():
            time.sleep(3600)
        if self.path == "/health":
            self._answer(200, {"status": "ok", "version": VERSION, "protocol": PROTOCOL, "connections": 0})
        elif self.path == "/api/auth/status":
            self._answer(200, {"setup_complete": has_password(), "has_password": has_password()})
        elif self.path == "/passkeys":
            self._answer(200, PASSKEY_PAGE)
        elif self.path == "/passkeys/begin":
            self._begin_passkey()
        elif self.path == "/":
            self._answer(200, {"page": "This is a stand-in for Moltis."})
        elif self.path == "/stand-in/kept":
            self._answer(200, {"pid": os.getpid(), **memory.kept()})
        else:
            self._answer(404, {"code": "NOT_FOUND", "error": "there is nothing here"})

    def do_POST(self) -> None:
        """Handle a POST."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        order = json.loads(body) if body else {}
        if self.path == "/api/restart":
            self._answer(200, {"ok": True})
            threading.Timer(RESTART_AFTER_S, reexec).start()
        elif self.path in {"/passkeys/register", "/passkeys/sign-in"}:
            self._answer(200, {"result": passkey_result(order, self.path.rpartition("/")[2])})
        elif self.path == "/stand-in/crash":
            self._answer(202, {"ok": True})
            crash(order)
        elif self.path == "/stand-in/hang":
            hanging.set()
            self._answer(202, {"ok": True})
        elif self.path == "/stand-in/keep":
            row = memory.keep(str(order.get("table", "messages")), str(order.get("text", "")))
            self._answer(201, {"id": row, "pid": os.getpid()})
        elif self.path == "/stand-in/helper":
            self._answer(202, {"pid": start_helper(stubborn=bool(order.get("stubborn")))})
        elif self.path == "/stand-in/log":
            for number in range(int(order.get("lines", 1))):
                log(order.get("level", "INFO"), order.get("message", "a line"), number=number)
            self._answer(202, {"ok": True})
        else:
            self._answer(404, {"code": "NOT_FOUND", "error": "there is nothing here"})

    def _begin_passkey(self) -> None:
        """Return a challenge if the request is for the host that passkeys are bound to, as Moltis does."""
        asked = (self.headers.get("X-Forwarded-Host") or self.headers.get("Host") or "").partition(":")[0]
        host = str(urlsplit(passkey_origin()).hostname)
        if asked == host:
            self._answer(200, {"rp": host, "challenge": base64.b64encode(CHALLENGE).decode()})
        else:
            self._answer(400, {"code": "NO_PASSKEYS", "error": f"passkeys are bound to {host}, not to {asked}"})

    def _answer(self, status: int, body: dict[str, object] | str) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: Moltis does not log requests either."""


def passkey_origin() -> str:
    """Return the origin of passkeys: MOLTIS_EXTERNAL_URL, else localhost."""
    return os.environ.get("MOLTIS_EXTERNAL_URL") or f"http://localhost:{options.port}"


def passkey_result(given: dict[str, object], kind: str) -> str:
    """Check a browser's passkey response like a WebAuthn server: its type, challenge, origin and host."""
    client = json.loads(base64.b64decode(str(given["client"])))
    authenticator = base64.b64decode(str(given["authenticator"]))
    origin = passkey_origin()
    challenge = base64.urlsafe_b64encode(CHALLENGE).rstrip(b"=").decode()
    wanted = {
        "type": "webauthn.create" if kind == "register" else "webauthn.get",
        "challenge": challenge,
        "origin": origin,
    }
    wrong = [name for name, value in wanted.items() if client.get(name) != value]
    if authenticator[:32] != hashlib.sha256(str(urlsplit(origin).hostname).encode()).digest():
        wrong.append("host")
    return f"refused: wrong {', '.join(wrong)}" if wrong else f"{kind} ok"


class Server(ThreadingHTTPServer):
    """A server that does not resolve its own address: in a container without DNS that takes seconds."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without a DNS lookup."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = options.bind, options.port


def crash(order: dict[str, object]) -> NoReturn:
    """Exit as by a panic (panic = abort), or with a code."""
    if "code" in order:
        os._exit(int(str(order["code"])))
    sys.stderr.write("thread 'main' panicked at crates/gateway/src/lib.rs:1:1:\na panic on request\n")
    sys.stderr.flush()
    os.abort()


def reexec() -> NoReturn:
    """Execute this program again with the same pid; children are left behind."""
    log("INFO", "restarting", target="moltis_httpd::tools_routes")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - as Moltis does


def start_helper(*, stubborn: bool) -> int:
    """Start a helper in its own process group, as Moltis' tools do."""
    script = ("trap '' TERM; " if stubborn else "") + "while :; do sleep 0.2; done"
    helper = subprocess.Popen(
        ["/bin/sh", "-c", script], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    return helper.pid


def stop(number: int, _frame: object) -> None:
    """Exit as Moltis does: on INT at once, on TERM and HUP after a delay; the exit code is always 0."""
    if number == signal.SIGINT:
        os._exit(0)
    # A second TERM has no effect.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log("INFO", "shutting down", signal=signal.Signals(number).name)
    threading.Timer(float(os.environ.get("STAND_IN_STOP_S", "0.2")), os._exit, (0,)).start()


def fail(what: str, why: str) -> NoReturn:
    """Exit as for an error returned by main: its chain on standard error, exit code 1."""
    sys.stderr.write(f"Error: {what}\n\nCaused by:\n    {why}\n")
    sys.exit(1)


def parse(words: list[str]) -> argparse.Namespace:
    """Parse the flags; a wrong one exits with 2, as with clap."""
    parser = argparse.ArgumentParser(prog="moltis", description="A stand-in for Moltis.")
    parser.add_argument("--bind", default=os.environ.get("MOLTIS_SERVER__BIND", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("MOLTIS_SERVER__PORT", "13131")))
    parser.add_argument("--no-tls", action="store_true")
    parser.add_argument("--json-logs", action="store_true")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--config-dir")
    parser.add_argument("--data-dir")
    return parser.parse_args(words)


def main() -> None:
    """Serve until asked to stop."""
    global options  # noqa: PLW0603 - one process, one set of flags
    options = parse(sys.argv[1:])
    log("INFO", "this is a stand-in for Moltis: it answers /health and little else", target="stand_in")
    try:
        ipaddress.ip_address(options.bind)
    except ValueError:
        fail("cannot parse the bind address", f"invalid IP address syntax: {options.bind}")
    set_up()
    banner()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    time.sleep(float(os.environ.get("STAND_IN_START_S", "0")))
    try:
        server = Server((options.bind, options.port), Handler)
    except OSError as error:
        fail(f"cannot bind {options.bind}:{options.port}", f"{error.strerror} (os error {error.errno})")
    server.serve_forever()


if __name__ == "__main__":
    main()
