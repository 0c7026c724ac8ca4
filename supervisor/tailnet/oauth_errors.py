"""What can go wrong when a key is to be made by Tailscale's API, in words for people."""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    Mask = Callable[[str], str]

INVALID = "invalid"
TAG_NOT_PERMITTED = "tag not permitted"
NOT_PERMITTED = "not permitted"
REFUSED = "refused"
_MOST_CHARACTERS = 300
_TAGS = re.compile(r"\btags?\b")
_CONSOLE = "Settings, Trust credentials, in the admin console"
_CHECK_SECRET = f"check the secret, and whether the OAuth client still is under {_CONSOLE}"
_CHECK_URL = "check SUPERVISOR_TAILSCALE_API_URL, or baseURL in the secret"
_CHECK_TAGS = (
    "set TS_TAGS to all the tags of the OAuth client, not to some of them, or to tags that these own; each has to "
    "stand under tagOwners in the tailnet's policy"
)


class OAuthRefusedError(Exception):
    """The API will not make a key, and asking again changes nothing.

    ``kind`` is invalid, tag not permitted, not permitted or refused; ``why`` and ``what_to_do`` make up the text.
    """

    def __init__(self, kind: str, why: str, what_to_do: str) -> None:
        super().__init__(f"{why}; {what_to_do}")
        self.kind = kind
        self.why = why
        self.what_to_do = what_to_do


class OAuthUnavailableError(Exception):
    """The API cannot be asked just now. ``retry_after_s`` is what it says itself, None where it says nothing."""

    def __init__(self, why: str, what_to_do: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{why}; {what_to_do}")
        self.why = why
        self.what_to_do = what_to_do
        self.retry_after_s = retry_after_s


class Answer(NamedTuple):
    """An answer that is no success."""

    status: int
    body: bytes
    retry_after: str


class _Body(msgspec.Struct):
    """Tailscale's own shape of an error, and that of OAuth 2.0."""

    message: str | None = None
    error: str | None = None
    error_description: str | None = None


def malformed(why: str) -> OAuthRefusedError:
    """Return the error for a secret that is none."""
    return OAuthRefusedError(INVALID, f"the OAuth client secret cannot be used: {why}", "write it as it was given out")


def no_tags() -> OAuthRefusedError:
    """Return the error for a client's secret without a tag to go with it."""
    why = "the keys of an OAuth client are for tagged devices only, and no tag is set"
    return OAuthRefusedError(TAG_NOT_PERMITTED, why, "set TS_TAGS to the tags of that client")


def unreachable(url: str, error: aiohttp.ClientError, mask: Mask) -> OAuthUnavailableError:
    """Return the error for a connection that did not come about, or broke."""
    import aiohttp

    why = str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        # asyncio's own words hold the address; those of a failed look-up have a number of their own.
        why = os.strerror(number).lower() if number and number > 0 else str(error.os_error.strerror or error.os_error)
    return OAuthUnavailableError(
        f"cannot reach {_host(url)} to make an auth key: {_plain(why, mask) or type(error).__name__}",
        f"check the container's way to the internet; {_CHECK_URL}",
    )


def silent(url: str, limit_s: float) -> OAuthUnavailableError:
    """Return the error for an answer that did not come in time."""
    why = f"{_host(url)} did not make an auth key within {limit_s:g} s"
    return OAuthUnavailableError(why, "check the container's way to the internet")


def nonsense(url: str) -> OAuthUnavailableError:
    """Return the error for an answer that Tailscale's API does not give."""
    return OAuthUnavailableError(f"what {_host(url)} answers is not of Tailscale's API", _CHECK_URL)


def of_answer(url: str, answer: Answer, mask: Mask, *, at_token: bool) -> OAuthRefusedError | OAuthUnavailableError:
    """Return the error for an answer that is no success; ``at_token`` where a token was asked for and no key yet.

    ``mask`` takes out of its text what must not be read.
    """
    said = _said(answer.body, mask)
    behind = f": {said}" if said else ""
    status = answer.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait_s = float(answer.retry_after) if re.fullmatch(r"[0-9]{1,6}", answer.retry_after) else None
        return OAuthUnavailableError(f"{_host(url)} asks to wait (rate limit){behind}", "wait", wait_s)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OAuthUnavailableError(f"{_host(url)} answers {status}{behind}", "wait; status.tailscale.com tells more")
    if status >= HTTPStatus.BAD_REQUEST:
        return _refusal(url, status, said, at_token=at_token)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        return OAuthUnavailableError(f"{_host(url)} answers {status}, a redirect, which is not followed", _CHECK_URL)
    return nonsense(url)


def _refusal(url: str, status: int, said: str, *, at_token: bool) -> OAuthRefusedError:
    behind = f": {said}" if said else f" ({status})"
    if status == HTTPStatus.NOT_FOUND:
        return OAuthRefusedError(REFUSED, f"{_host(url)} has no such path{behind}", _CHECK_URL)
    # The API says the same whether a tag is unknown, is not the client's, or is only one of the client's tags.
    if _TAGS.search(said) and not at_token:
        return OAuthRefusedError(TAG_NOT_PERMITTED, f"the OAuth client may not give these tags{behind}", _CHECK_TAGS)
    if at_token or status == HTTPStatus.UNAUTHORIZED:
        return OAuthRefusedError(INVALID, f"the OAuth client is not accepted{behind}", _CHECK_SECRET)
    if status == HTTPStatus.FORBIDDEN:
        why = f"the OAuth client may not make auth keys{behind}"
        return OAuthRefusedError(NOT_PERMITTED, why, f"give it the scope Auth Keys, to write, under {_CONSOLE}")
    return OAuthRefusedError(REFUSED, f"no auth key was made{behind}", _CHECK_SECRET)


def _said(body: bytes, mask: Mask) -> str:
    """Return the message in a body, fit to be shown; nothing where it holds none."""
    try:
        told = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return _plain(told.message or told.error_description or told.error or "", mask)


def _plain(text: str, mask: Mask) -> str:
    """Return one printable line, not too long; masked before it is cut, or part of a secret could stay."""
    one_line = " ".join("".join(character if character.isprintable() else " " for character in mask(text)).split())
    return mask(one_line)[:_MOST_CHARACTERS]


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
