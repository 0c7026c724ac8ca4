"""Errors as every client gets them: `{"code": "SCREAMING_SNAKE", "error": "text for people"}`."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from supervisor.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_encode = msgspec.json.Encoder().encode


class Code(Enum):
    """Every error there is: the status it comes with, and its text where there is no better one."""

    BAD_REQUEST = (400, "the request is no HTTP that can be understood; see the API's page for what it takes")
    INVALID_BODY = (400, "the body is not what this path takes; see the API's page")
    INVALID_QUERY = (400, "the query is not what this path takes; see the API's page")
    INVALID_AUTH_KEY = (400, "this is not an auth key; paste one as Tailscale shows it")
    NOT_SIGNED_IN = (401, "this takes signing in; send the header Authorization: Bearer TOKEN")
    WRONG_CREDENTIALS = (401, "these credentials are wrong, or no longer good; sign in again")
    CROSS_SITE = (403, "this request comes from another site; open the panel's own address")
    CONTROL_REFUSED = (
        403,
        "this process may not give orders to the supervisor; give them from outside of it",
    )
    NOT_FOUND = (404, "there is nothing at this path; the panel is at /, and the API's page lists all others")
    NO_AUTH_URL = (404, "no login URL is pending; ask for one with connect")
    UNKNOWN_PROCESS = (404, "there is no process of this name; name one of those that there are")
    UNKNOWN_SNAPSHOT = (
        404,
        "there is no snapshot of this id, or more than one; `backup list` shows those that there are",
    )
    UNKNOWN_INCIDENT = (404, "there is no incident of this id; GET /api/incidents lists those that are kept")
    METHOD_NOT_ALLOWED = (405, "this path does not take that method; the header Allow names those that it takes")
    REQUEST_TIMEOUT = (408, "the request took too long to arrive; send its body within 10 seconds")
    CONFIRMATION_NEEDED = (409, "this wants to be confirmed; send it again with confirm: true")
    BACKUPS_OFF = (409, "there are no backups here: SUPERVISOR_BACKUP_REPOSITORY is not set; set it")
    BACKUP_BUSY = (409, "a restore is under way; wait until it is done")
    TAILSCALE_OFF = (409, "there is no tailnet here: SUPERVISOR_TAILSCALE is off; set it to embedded or attach")
    STOPPING = (409, "the supervisor is stopping, and everything with it; wait until it is there again")
    TOKEN_SET = (409, "there is an admin token, so no code is printed; sign in with SUPERVISOR_TOKEN's value")
    PAYLOAD_TOO_LARGE = (413, "the body is larger than 64 KiB; send a smaller one")
    UNSUPPORTED_MEDIA_TYPE = (415, "the body is not JSON by its header; send Content-Type: application/json")
    EXPECTATION_FAILED = (417, "that expectation is not met here; leave the header Expect out")
    TOO_MANY_ATTEMPTS = (429, "too many wrong credentials; a right one is accepted at any time")
    CODE_PRINTED_ALREADY = (429, "a code was printed less than a minute ago; look for it in the container's log")
    HEAD_TOO_LARGE = (431, "the request's head is larger than 32 KiB; send fewer or shorter headers and cookies")
    INTERNAL_ERROR = (500, "something failed in the supervisor; its log says more")
    TOO_MANY_STREAMS = (503, "too many event streams are open; close one of them")

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return self.value[0]

    @property
    def text(self) -> str:
        """Return the text for people."""
        return self.value[1]


# What every answer has, unless it has another of that name.
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class RefusedError(Exception):
    """A request is refused: ``code`` for programs, ``text`` for people, and headers that go with it."""

    def __init__(self, code: Code, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.code = code
        self.text = text or code.text
        self.headers = headers
        super().__init__(self.text)


def no_process(name: str, names: Iterable[str]) -> RefusedError:
    """Return the refusal of a process that is none of ``names``."""
    there = ", ".join(names)
    what_there_is = f"those that there are: {there}" if there else "there is none here"
    return RefusedError(Code.UNKNOWN_PROCESS, f"there is no process {quoted(name)}; {what_there_is}")


def encode_error(refusal: RefusedError) -> bytes:
    """Return an error's body."""
    return _encode({"code": refusal.code.name, "error": refusal.text})
