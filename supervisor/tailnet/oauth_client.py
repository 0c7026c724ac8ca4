"""Which key the device logs in with, and how an OAuth client gets one: tailscaled itself takes no client secret.

Tailscale's API is asked twice, as the `tailscale` program does (tailscale.com/feature/oauthkey): client credentials for
an access token, and that for a key.
"""

from __future__ import annotations

import asyncio
import os
import re
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from supervisor import __version__
from supervisor.config.parsers import InvalidValueError
from supervisor.config.tailscale_env import ClientSecret, is_client_secret, parse_client_secret
from supervisor.errors import ConfigError
from supervisor.json_input import decode_json
from supervisor.runtime.loop_latency import run_in_thread
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    Mask = Callable[[str], str]
    import tenacity

    from supervisor.config.settings import TailnetSettings
    from supervisor.logs.redact import Redactor

INVALID = "invalid"
TAG_NOT_PERMITTED = "tag not permitted"
NOT_PERMITTED = "not permitted"
REFUSED = "refused"
_MOST_CHARACTERS = 300
_TAGS = re.compile(r"\btags?\b")
_CONSOLE = "Settings, Trust credentials, in the admin console"
_CHECK_SECRET = f"check the secret, and whether the OAuth client still is under {_CONSOLE}"
_MAY_NOT_READ = "the OAuth client may not read the tailnet's policy"
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


class ApiResponse(NamedTuple):
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


def of_answer(
    url: str, answer: ApiResponse, mask: Mask, *, at_token: bool
) -> OAuthRefusedError | OAuthUnavailableError:
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
        told = decode_json(body, _Body)
    except msgspec.DecodeError:
        return ""
    return _plain(told.message or told.error_description or told.error or "", mask)


def _plain(text: str, mask: Mask) -> str:
    """Return one printable line, not too long; masked before it is cut, or part of a secret could stay."""
    one_line = " ".join("".join(character if character.isprintable() else " " for character in mask(text)).split())
    return mask(one_line)[:_MOST_CHARACTERS]


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


MOST_BODY_BYTES = 64 * 1024
# The key is used at once; one that is not for want of an answer is not to lie about for 90 days.
KEY_LIVES_S = 3600

__all__ = ["Minted", "OAuthClient", "OAuthRefusedError", "OAuthUnavailableError", "Timing", "is_client_secret"]


class Minted(NamedTuple):
    """A new auth key, good for one device; ``ephemeral`` says what that device will be."""

    key: Secret
    ephemeral: bool


class Timing(NamedTuple):
    """How long to try: ``attempt_s`` is for both requests, ``budget_s`` for everything, waits included."""

    attempts: int = 4
    attempt_s: float = 8.0
    first_wait_s: float = 0.5
    budget_s: float = 25.0


class _Token(msgspec.Struct):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the kind, no secret


class _Key(msgspec.Struct):
    key: str


class _Policy(msgspec.Struct):
    tag_owners: dict[str, Any] | None = msgspec.field(default=None, name="tagOwners")


_Answer = TypeVar("_Answer", _Token, _Key, _Policy)


class OAuthClient:
    """Makes keys as the settings ask for them. ``redactor`` learns each secret before it is used."""

    def __init__(
        self,
        tailnet: TailnetSettings,
        redactor: Redactor,
        timing: Timing = Timing(),  # noqa: B008 - immutable
    ) -> None:
        self._tailnet = tailnet
        self._redactor = redactor
        self._timing = timing

    async def mint(self, secret: Secret) -> Minted:
        """Return a new key; trouble that may pass is tried again a few times, within half a minute.

        Raises OAuthRefusedError or OAuthUnavailableError.
        """
        client, url = await self._prepared(secret)
        try:
            async with asyncio.timeout(self._timing.budget_s):
                async for attempt in self._attempts():
                    with attempt:
                        return await self._attempt(client, url)
        except TimeoutError as error:
            raise silent(url, self._timing.budget_s) from error
        raise AssertionError("the attempts ended without an answer")

    async def _prepared(self, secret: Secret) -> tuple[ClientSecret, str]:
        """Return the client and where its API is; its secret is masked from now on."""
        try:
            client = parse_client_secret(secret.reveal())
        except InvalidValueError as error:
            raise malformed(str(error)) from error
        if not self._tailnet.prefs.advertise_tags:
            raise no_tags()
        # Servers repeat the part behind the last dash alone, too.
        for part in (client.value.reveal(), client.value.reveal().rpartition("-")[2]):
            self._redactor.learn(part)
        url = client.api_url or self._tailnet.api_url
        # It takes a tenth of a second, and most devices never need it.
        await run_in_thread(import_module, "aiohttp.client")
        return client, url

    async def owned_tags(self, secret: Secret) -> frozenset[str]:
        """Return the tags that the tailnet's policy has owners for; asked once. The client may not be allowed to.

        Raises OAuthRefusedError or OAuthUnavailableError.
        """
        client, url = await self._prepared(secret)
        import aiohttp

        try:
            async with asyncio.timeout(self._timing.attempt_s), _session() as session:
                headers = await self._authorized(session, client, url)
                policy = await self._ask(session, f"{url}/api/v2/tailnet/-/acl", _Policy, "GET", headers=headers)
        except TimeoutError as error:
            raise silent(url, self._timing.attempt_s) from error
        except aiohttp.ClientError as error:
            raise unreachable(url, error, self._redactor.mask_text) from error
        return frozenset(policy.tag_owners or ())

    def _attempts(self) -> tenacity.AsyncRetrying:
        # Loaded where a key is made: most devices never need one.
        import tenacity

        timing = self._timing
        own_wait = tenacity.wait_exponential(multiplier=timing.first_wait_s) + tenacity.wait_random(
            0, timing.first_wait_s
        )

        def wait_s(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            told_s = error.retry_after_s if isinstance(error, OAuthUnavailableError) else None
            return own_wait(state) if told_s is None else told_s

        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(OAuthUnavailableError),
            wait=wait_s,
            # A wait that does not fit in is not begun: whoever asked is told now instead of later.
            stop=tenacity.stop_after_attempt(timing.attempts) | tenacity.stop_before_delay(timing.budget_s),
            reraise=True,
        )

    async def _attempt(self, client: ClientSecret, url: str) -> Minted:
        import aiohttp

        try:
            async with asyncio.timeout(self._timing.attempt_s), _session() as session:
                return await self._exchange(session, client, url)
        except TimeoutError as error:
            raise silent(url, self._timing.attempt_s) from error
        except aiohttp.ClientError as error:
            raise unreachable(url, error, self._redactor.mask_text) from error

    async def _exchange(self, session: aiohttp.ClientSession, client: ClientSecret, url: str) -> Minted:
        headers = await self._authorized(session, client, url)
        ephemeral = self._is_ephemeral(client)
        create = {"reusable": False, "ephemeral": ephemeral, "preauthorized": client.preauthorized}
        tags = list(self._tailnet.prefs.advertise_tags)
        wish = {"capabilities": {"devices": {"create": create | {"tags": tags}}}, "expirySeconds": KEY_LIVES_S}
        made = await self._ask(session, f"{url}/api/v2/tailnet/-/keys", _Key, json=wish, headers=headers)
        return Minted(Secret(self._kept(made.key, url)), ephemeral)

    async def _authorized(self, session: aiohttp.ClientSession, client: ClientSecret, url: str) -> dict[str, str]:
        """Return the headers that sign a request: client credentials are exchanged for a token."""
        secret = client.value.reveal()
        client_id = self._tailnet.client_id or client.client_id
        form = {"grant_type": "client_credentials", "client_secret": secret}
        if client_id:
            form["client_id"] = client_id
        token = await self._ask(session, f"{url}/api/v2/oauth/token", _Token, data=form)
        if token.token_type.lower() != "bearer":
            raise nonsense(url)
        return {"Authorization": f"Bearer {self._kept(token.access_token, url)}"}

    def _kept(self, secret: str, url: str) -> str:
        """Have a secret masked from now on, if it is one."""
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise nonsense(url)
        self._redactor.learn(secret)
        return secret

    async def _ask(
        self, session: aiohttp.ClientSession, url: str, kind: type[_Answer], method: str = "POST", **sent: Any
    ) -> _Answer:
        """Send one request and return the answer of that kind."""
        # The way out may lead through a proxy, as tailscaled's own does. aiohttp's trust_env would read .netrc as well.
        async with session.request(method, url, allow_redirects=False, proxy=_proxy_for(url), **sent) as answer:
            body = await _read(answer.content, url)
            if kind is _Policy and answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise OAuthRefusedError(NOT_PERMITTED, _MAY_NOT_READ, f"give it the scope Policy File under {_CONSOLE}")
            if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
                refused = ApiResponse(answer.status, body, answer.headers.get("Retry-After", ""))
                raise of_answer(url, refused, self._redactor.mask_text, at_token=kind is _Token)
        try:
            return decode_json(body, kind)
        except msgspec.DecodeError as error:
            raise nonsense(url) from error

    def _is_ephemeral(self, client: ClientSecret) -> bool:
        """Tell what the device is to be: the secret's own word beats TS_EPHEMERAL, which beats Tailscale's default."""
        for word in (client.ephemeral, self._tailnet.ephemeral):
            if word is not None:
                return word
        return True


def _session() -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        headers={"Accept": "application/json", "User-Agent": f"moltis-supervisor/{__version__}"},
        # What is packed may unpack to any size.
        skip_auto_headers=("Accept-Encoding",),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _proxy_for(url: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    scheme, _, rest = url.partition("://")
    return None if proxy_bypass(rest.partition("/")[0]) else getproxies().get(scheme.lower())


async def _read(stream: aiohttp.StreamReader, url: str) -> bytes:
    body = bytearray()
    async for chunk in stream.iter_any():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            raise nonsense(url)
    return bytes(body)


_SALT = os.urandom(16)


class Credential(NamedTuple):
    """A key or an OAuth client secret; ``fingerprint`` tells it from others without giving it away."""

    secret: Secret
    fingerprint: bytes


class Usable(NamedTuple):
    """An auth key; ``ephemeral`` where it is known that it makes devices that are to disappear."""

    key: Secret
    ephemeral: bool = False


class Keys:
    """Where credentials come from. ``redactor`` learns each secret before it is used, so that no text shows it."""

    def __init__(self, tailnet: TailnetSettings, redactor: Redactor) -> None:
        self._source = tailnet.auth_key or tailnet.client_secret
        self._client = OAuthClient(tailnet, redactor)
        self._learn = redactor.learn
        self.pasted: Secret | None = None
        self.trouble = ""

    async def current(self) -> Credential | None:
        """Return the one to use now; None where there is none, or its file cannot be read (see ``trouble``)."""
        secret = self.pasted
        if secret is None and self._source is not None:
            try:
                secret = await run_in_thread(self._source.read)
            except ConfigError as error:
                self.trouble = str(error)
                return None
        self.trouble = ""
        return None if secret is None else Credential(secret, fingerprint(secret))

    async def usable(self, credential: Credential) -> Usable:
        """Return an auth key for it; an OAuth client secret is exchanged for one.

        Raises OAuthRefusedError and OAuthUnavailableError.
        """
        self._learn(credential.secret.reveal())
        if not is_client_secret(credential.secret.reveal()) and not self._is_client_secret(credential):
            return Usable(credential.secret)
        minted = await self._client.mint(credential.secret)
        return Usable(minted.key, minted.ephemeral)

    def _is_client_secret(self, credential: Credential) -> bool:
        return (
            credential.secret is not self.pasted
            and self._source is not None
            and self._source.name.startswith("TS_CLIENT_SECRET")
        )


def fingerprint(secret: Secret) -> bytes:
    """Return what tells a key from others in this run, without giving it away."""
    import hashlib

    return hashlib.blake2b(secret.reveal().encode(), key=_SALT, digest_size=16).digest()
