"""`connect`, `disconnect` and `auth-url`: the tailnet for people who have a console and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.commands.answers import Answer
from supervisor.commands.control import EX_REFUSED, RefusedError
from supervisor.commands.operator import EX_NOT_YET, SETTLE_S, settle
from supervisor.commands.status import TAILNET, tailnet_lines
from supervisor.core.tailnet import CONNECTING, DOWN, NEEDS_LOGIN, OFF, REFUSED, STARTING, SWITCHED_OFF, UNREACHABLE
from supervisor.errors import UsageError
from supervisor.secret import Secret

if TYPE_CHECKING:
    from supervisor.commands.operator import Operator
    from supervisor.commands.table import Words

CONNECT = "/api/tailscale/connect"
DISCONNECT = "/api/tailscale/disconnect"
AUTH_URL = "/api/tailscale/auth-url"
# States that a login passes through, if only for a moment.
_ON_THE_WAY = frozenset({STARTING, DOWN, CONNECTING, NEEDS_LOGIN, SWITCHED_OFF, OFF, UNREACHABLE})
_MOST_KEY_CHARACTERS = 4096


def connect(words: Words, operator: Operator) -> int:
    """Connect, and show the login URL where one is waited for; 0 when connected, 1 for a bad key, 75 when not yet."""
    path = words.options.get("--auth-key-file")
    key = None if path is None else _read_key(operator, path)
    before = now = _look(operator)
    operator.control.post(CONNECT, {} if key is None else {"auth_key": key.reveal()})

    def settled() -> bool:
        nonlocal now
        now = _look(operator)
        # With a key, what was true before says nothing of it.
        moved = _place(now) != _place(before)
        if _failed(now, before):
            return True
        if now.flag("tailscale_up"):
            return moved or key is None
        if key is None and now.flag("auth_url_pending"):
            return True
        return moved and now.text("state") not in _ON_THE_WAY

    settle(settled)
    if "--json" in words.options:
        operator.give(now.fields)
    else:
        _tell(operator, now)
    if key is not None and _failed(now, before):
        if now.flag("tailscale_up"):
            operator.note(f"the key was not taken: {now.text('last_error')}")
        return EX_REFUSED
    if now.flag("tailscale_up"):
        return 0
    return EX_REFUSED if now.text("state") == REFUSED else EX_NOT_YET


def disconnect(words: Words, operator: Operator) -> int:
    """Disconnect, or forget the login as well, after asking where the supervisor wants it."""
    forget = "--forget" in words.options
    order: dict[str, object] = {"forget": True} if forget else {}
    if "--yes" in words.options:
        order["confirm"] = True
    try:
        operator.control.post(DISCONNECT, order)
    except RefusedError as refusal:
        if refusal.code != "CONFIRMATION_NEEDED":
            raise
        if not _agreed(operator, refusal):
            operator.note("nothing was changed")
            return EX_REFUSED
        operator.control.post(DISCONNECT, {**order, "confirm": True})
    now = Answer(TAILNET, {})

    def away() -> bool:
        nonlocal now
        now = _look(operator)
        return now.text("choice") == ("forgotten" if forget else "disconnected") and now.text("state") == OFF

    there = settle(away)
    if "--json" in words.options:
        operator.give(now.fields)
    else:
        _tell(operator, now)
        if not there:
            operator.note(f"not disconnected after {SETTLE_S:g} s; `status` tells how it goes on")
    return 0 if there else EX_NOT_YET


def auth_url(words: Words, operator: Operator) -> int:
    """Print the pending login URL; where there is none the supervisor says so, and that is 1."""
    body = operator.control.get(AUTH_URL)
    if "--json" in words.options:
        operator.give(body)
    else:
        url = Answer(AUTH_URL, body).text("auth_url")
        operator.say(url)
        if "--qr" in words.options:
            _show_code(operator, url)
    return 0


def _look(operator: Operator) -> Answer:
    return Answer(TAILNET, operator.control.get(TAILNET))


def _place(tailnet: Answer) -> tuple[object, ...]:
    """Return what changes when the tailnet's state moves."""
    return tailnet.text("state"), tailnet.text("since"), tailnet.flag("auth_url_pending")


def _failed(now: Answer, before: Answer) -> bool:
    """Tell whether something went wrong since ``before``."""
    return now.text("last_error_at") not in {"", before.text("last_error_at")}


def _tell(operator: Operator, tailnet: Answer) -> None:
    for line in tailnet_lines(operator, tailnet):
        operator.say(line)
    if not tailnet.flag("auth_url_pending"):
        return
    try:
        url = Answer(AUTH_URL, operator.control.get(AUTH_URL)).text("auth_url")
    except RefusedError:
        # Somebody was quicker: it has been used by now.
        return
    operator.say()
    operator.say(f"open this URL to log in: {url}")
    if operator.on_terminal:
        _show_code(operator, url)


def _show_code(operator: Operator, url: str) -> None:
    from supervisor.commands.qr import draw

    lines = draw(operator, url)
    for line in lines:
        operator.say(line)
    if not lines:
        operator.note("the terminal is too narrow for the QR code")


def _agreed(operator: Operator, refusal: RefusedError) -> bool:
    if not operator.can_ask:
        raise RefusedError(refusal.status, refusal.code, f"{refusal}; --yes agrees to it beforehand", refusal.body)
    operator.out.flush()
    operator.err.write(f"{refusal}\ngo on? [y/N] ")
    operator.err.flush()
    return operator.stdin.readline().strip().lower() in {"y", "yes"}


def _read_key(operator: Operator, path: str) -> Secret:
    """Return the key from a file, from standard input, or from a person, whose terminal does not show it."""
    if path == "-" and operator.can_ask:
        from getpass import getpass

        text = getpass("auth key (not shown): ")
    else:
        try:
            if path == "-":
                text = operator.stdin.read(_MOST_KEY_CHARACTERS + 1)
            else:
                with open(path, encoding="utf-8") as file:
                    text = file.read(_MOST_KEY_CHARACTERS + 1)
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or "it is not text"
            raise UsageError(f"cannot read the auth key from {path}: {why}; check the path, and its rights") from error
    key = text.strip()
    if not key or len(text) > _MOST_KEY_CHARACTERS or not key.isprintable():
        raise UsageError(f"cannot use the auth key from {path}: it is not one line of text; put the key there alone")
    return Secret(key)
