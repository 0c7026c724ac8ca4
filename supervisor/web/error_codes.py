"""Errors as clients get them: `{"code": "SCREAMING_SNAKE", "error": "text for people"}`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from supervisor.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_encode = msgspec.json.Encoder().encode


class Code(Enum):
    """All errors: the HTTP status of each, and its default text."""

    BAD_REQUEST = (400, "the request is not valid HTTP; see the API's page")
    INVALID_BODY = (400, "the body does not match what this path expects; see the API's page")
    INVALID_QUERY = (400, "the query does not match what this path expects; see the API's page")
    INVALID_AUTH_KEY = (400, "this is not an auth key; paste one as Tailscale shows it")
    NOT_SIGNED_IN = (401, "authentication is required; send the header Authorization: Bearer TOKEN")
    WRONG_CREDENTIALS = (401, "these credentials are wrong or have expired; sign in again")
    CROSS_SITE = (403, "this request comes from another site; open the panel's own address")
    CONTROL_REFUSED = (
        403,
        "this process may not control the supervisor; use a console outside of it",
    )
    NOT_FOUND = (404, "there is nothing at this path; the panel is at /, and the API's page lists all others")
    NO_AUTH_URL = (404, "no login URL is pending; request one with connect")
    UNKNOWN_PROCESS = (404, "there is no process of this name; GET /api/processes lists all")
    UNKNOWN_SNAPSHOT = (
        404,
        "there is no snapshot with this id, or more than one; `backup list` shows all",
    )
    UNKNOWN_INCIDENT = (404, "there is no incident with this id; GET /api/incidents lists all")
    METHOD_NOT_ALLOWED = (405, "this path does not support that method; the header Allow lists those it supports")
    REQUEST_TIMEOUT = (408, "the request took too long to arrive; send its body within 10 seconds")
    CONFIRMATION_NEEDED = (409, "this requires a confirmation; send it again with confirm: true")
    BACKUPS_OFF = (409, "backups are off: SUPERVISOR_BACKUP_REPOSITORY is not set; set it and restart the container")
    BACKUP_BUSY = (409, "a restore is in progress; wait until it is done")
    TAILSCALE_OFF = (409, "the tailnet is off: SUPERVISOR_TAILSCALE is off; set it to embedded or attach")
    STOPPING = (409, "the supervisor is stopping; wait until it is running again")
    TOKEN_SET = (409, "an admin token is set, so no code is printed; sign in with the value of SUPERVISOR_TOKEN")
    PAYLOAD_TOO_LARGE = (413, "the body is larger than 64 KiB; send a smaller one")
    UNSUPPORTED_MEDIA_TYPE = (415, "the Content-Type is not JSON; send Content-Type: application/json")
    EXPECTATION_FAILED = (417, "this expectation is not supported; omit the header Expect")
    TOO_MANY_ATTEMPTS = (429, "too many wrong credentials; the right one is accepted at any time")
    CODE_PRINTED_ALREADY = (429, "a code was printed less than a minute ago; look for it in the container's log")
    HEAD_TOO_LARGE = (
        431,
        "the request's head has more than 32 KiB or 512 headers; send fewer or shorter headers and cookies",
    )
    INTERNAL_ERROR = (500, "the supervisor failed to handle the request; its log has the details")
    NOT_STARTED = (503, "the app is not started yet; try again in a moment")
    TOO_MANY_STREAMS = (503, "too many event streams are open; close one of them")

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return self.value[0]

    @property
    def text(self) -> str:
        """Return the text for people."""
        return self.value[1]


SESSION_ENDED = "the session has ended; sign in again"

# Headers of every response, unless it sets them itself.
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class RefusedError(Exception):
    """A refused request: ``code`` for programs, ``text`` for people, and headers of the response."""

    def __init__(self, code: Code, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.code = code
        self.text = text or code.text
        self.headers = headers
        super().__init__(self.text)


def no_process(name: str, names: Iterable[str]) -> RefusedError:
    """Return the error for a process that is not one of ``names``."""
    there = ", ".join(names)
    what_there_is = f"known ones: {there}" if there else "there are none here"
    return RefusedError(Code.UNKNOWN_PROCESS, f"there is no process {quoted(name)}; {what_there_is}")


def encode_error(refusal: RefusedError) -> bytes:
    """Return an error's body."""
    return _encode({"code": refusal.code.name, "error": refusal.text})
