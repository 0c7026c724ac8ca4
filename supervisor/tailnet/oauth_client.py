"""Chooses the login key, and gets one for an OAuth client, whose secret tailscaled itself does not accept.

It makes two requests to Tailscale's API, as the `tailscale` program does (tailscale.com/feature/oauthkey): client
credentials for an access token, and the token for a key.
"""

from __future__ import annotations

import asyncio
import os
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from supervisor import __version__
from supervisor.config.parsers import InvalidValueError
from supervisor.config.proxies import bad_proxy, proxy_for
from supervisor.config.tailscale_env import ClientSecret, is_client_secret, parse_client_secret
from supervisor.errors import ConfigError, connection_error
from supervisor.json_input import decode_json
from supervisor.logs.received import received_line
from supervisor.runtime.loop_latency import TimedReader, import_alone, run_in_thread
from supervisor.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    Mask = Callable[[str], str]
    import tenacity

    from supervisor.config.settings import TailnetSettings
    from supervisor.logs.redact import Redactor

INVALID = "invalid"
TAG_NOT_PERMITTED = "tag not permitted"
NOT_PERMITTED = "not permitted"
REFUSED = "refused"
_TAGS = re.compile(r"\btags?\b")
_CONSOLE = "Settings, Trust credentials, in the admin console"
_CHECK_SECRET = f"check the secret, and whether the OAuth client still is under {_CONSOLE}"
_MAY_NOT_READ = "the OAuth client may not read {}"
_CHECK_URL = "check SUPERVISOR_TAILSCALE_API_URL, or baseURL in the secret"
_CHECK_TAGS = (
    "set TS_TAGS to all the tags of the OAuth client, not to some of them, or to tags that these own; each needs an "
    "owner under tagOwners in the tailnet's policy"
)


class OAuthRefusedError(Exception):
    """The API refuses to create a key permanently.

    ``kind`` is invalid, tag not permitted, not permitted or refused; ``why`` and ``what_to_do`` make up the text.
    """

    def __init__(self, kind: str, why: str, what_to_do: str) -> None:
        super().__init__(f"{why}; {what_to_do}")
        self.kind = kind


class OAuthUnavailableError(Exception):
    """The API is unavailable. ``retry_after_s`` is the delay that it asks for, None if it does not."""

    def __init__(self, why: str, what_to_do: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{why}; {what_to_do}")
        self.retry_after_s = retry_after_s


class _Body(msgspec.Struct):
    """Tailscale's error format, and that of OAuth 2.0."""

    message: str | None = None
    error: str | None = None
    error_description: str | None = None


def unreachable(url: str, error: aiohttp.ClientError, mask: Mask) -> OAuthUnavailableError:
    """Return the error for a failed or broken connection."""
    import aiohttp

    why = str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        why = connection_error(error.os_error)
    return OAuthUnavailableError(
        f"cannot reach {_host(url)} to make an auth key: {received_line(why, mask) or type(error).__name__}",
        f"check the container's internet access; {_CHECK_URL}",
    )


def silent(url: str, limit_s: float) -> OAuthUnavailableError:
    """Return the error for a response that did not arrive in time."""
    why = f"{_host(url)} did not make an auth key within {limit_s:g} s"
    return OAuthUnavailableError(why, "check the container's internet access")


def nonsense(url: str, why: str = "is not of Tailscale's API") -> OAuthUnavailableError:
    """Return the error for a response that is not one of Tailscale's API, or too large for one."""
    return OAuthUnavailableError(f"what {_host(url)} answers {why}", _CHECK_URL)


def of_answer(
    url: str, answer: aiohttp.ClientResponse, body: bytes, mask: Mask, *, at_token: bool
) -> OAuthRefusedError | OAuthUnavailableError:
    """Return the error for a response other than 2xx; ``at_token`` if it came for the token rather than the key.

    ``mask`` removes secrets from its text.
    """
    said = _said(body, mask)
    behind = f": {said}" if said else ""
    status = answer.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        after = answer.headers.get("Retry-After", "")
        wait_s = float(after) if re.fullmatch(r"[0-9]{1,6}", after) else None
        return OAuthUnavailableError(f"{_host(url)} asks to wait (rate limit){behind}", "wait", wait_s)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OAuthUnavailableError(
            f"{_host(url)} answers {status}{behind}", "wait; status.tailscale.com may have details"
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return _refusal(url, status, said, at_token=at_token)
    if status >= HTTPStatus.MULTIPLE_CHOICES:
        return OAuthUnavailableError(f"{_host(url)} answers {status}, a redirect, which is not followed", _CHECK_URL)
    return nonsense(url)


def _refusal(url: str, status: int, said: str, *, at_token: bool) -> OAuthRefusedError:
    behind = f": {said}" if said else f" ({status})"
    if status == HTTPStatus.NOT_FOUND:
        return OAuthRefusedError(REFUSED, f"{_host(url)} has no such path{behind}", _CHECK_URL)
    # The API's message is the same for an unknown tag, another client's tag, and only one of the client's tags.
    if _TAGS.search(said) and not at_token:
        return OAuthRefusedError(TAG_NOT_PERMITTED, f"the OAuth client may not give these tags{behind}", _CHECK_TAGS)
    if at_token or status == HTTPStatus.UNAUTHORIZED:
        return OAuthRefusedError(INVALID, f"the OAuth client is not accepted{behind}", _CHECK_SECRET)
    if status == HTTPStatus.FORBIDDEN:
        why = f"the OAuth client may not make auth keys{behind}"
        return OAuthRefusedError(NOT_PERMITTED, why, f"give it the scope Auth Keys, to write, under {_CONSOLE}")
    return OAuthRefusedError(REFUSED, f"no auth key was made{behind}", _CHECK_SECRET)


def _said(body: bytes, mask: Mask) -> str:
    """Return the message in a body as one line; empty if there is none."""
    try:
        told = decode_json(body, _Body)
    except msgspec.DecodeError:
        return ""
    return received_line(told.message or told.error_description or told.error or "", mask)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


MOST_BODY_BYTES = 64 * 1024
# A policy lists a whole tailnet's rules.
MOST_POLICY_BYTES = 4 * 1024 * 1024
# The key is used at once; one that is unused because its response was lost must not stay valid for 90 days.
KEY_LIVES_S = 3600


class Usable(NamedTuple):
    """An auth key; ``ephemeral`` is set if it is known to create ephemeral devices."""

    key: Secret
    ephemeral: bool = False


class Timing(NamedTuple):
    """Time limits: ``attempt_s`` for both requests, ``budget_s`` for everything including retries."""

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


class _Create(msgspec.Struct):
    reusable: bool = False
    tags: tuple[str, ...] = ()


class _KnownKey(msgspec.Struct):
    """The API's description of a key (tailscale.com/client/tailscale, Key)."""

    expires: str = ""
    capabilities: dict[str, dict[str, _Create]] = {}


class KnownKey(NamedTuple):
    """An existing auth key: whether it is reusable, its tags, and its expiry (RFC 3339; empty if unknown)."""

    reusable: bool
    tags: tuple[str, ...]
    expires: str


_Answer = TypeVar("_Answer", _Token, _Key, _Policy, _KnownKey)
_Result = TypeVar("_Result")
# Responses that need a scope of their own: what they contain, and the name of the scope.
_TO_READ = {_Policy: ("the tailnet's policy", "Policy File"), _KnownKey: ("the tailnet's keys", "Auth Keys")}


class OAuthClient:
    """Creates auth keys as the settings ask for. ``redactor`` learns each secret before it is used."""

    def __init__(
        self,
        tailnet: TailnetSettings,
        redactor: Redactor,
        timing: Timing = Timing(),  # noqa: B008 - immutable
    ) -> None:
        self._tailnet = tailnet
        self._redactor = redactor
        self._timing = timing

    async def mint(self, secret: Secret) -> Usable:
        """Return a new key; temporary errors are retried for up to half a minute.

        Raises OAuthRefusedError or OAuthUnavailableError.
        """
        client, url = await self._prepared(secret)
        try:
            async with asyncio.timeout(self._timing.budget_s):
                async for attempt in self._attempts():
                    with attempt:
                        return await self._attempt(url, partial(self._exchange, client, url))
        except TimeoutError as error:
            raise silent(url, self._timing.budget_s) from error
        raise AssertionError("the attempts ended without an answer")

    async def _prepared(self, secret: Secret, *, tags: bool = True) -> tuple[ClientSecret, str]:
        """Return the client and the URL of its API; its secret is masked from now on."""
        try:
            client = parse_client_secret(secret.reveal())
        except InvalidValueError as error:
            why = f"the OAuth client secret cannot be used: {error}"
            raise OAuthRefusedError(INVALID, why, "write it as it was issued") from error
        if tags and client.ephemeral and self._tailnet.keeps_identity:
            why = "it asks for ephemeral devices, and with backups the device keeps its identity"
            raise OAuthRefusedError(INVALID, f"the OAuth client secret cannot be used: {why}", "remove ephemeral=true")
        if tags and not self._tailnet.prefs.advertise_tags:
            why = "the keys of an OAuth client are for tagged devices only, and no tag is set"
            raise OAuthRefusedError(TAG_NOT_PERMITTED, why, "set TS_TAGS to the tags of that client")
        # Servers also echo the part after the last dash.
        for part in (client.value.reveal(), client.value.reveal().rpartition("-")[2]):
            self._redactor.learn(part)
        url = client.api_url or self._tailnet.api_url
        await run_in_thread(_load_libraries)
        return client, url

    async def owned_tags(self, secret: Secret) -> frozenset[str]:
        """Return the tags with owners in the tailnet's policy. Raises the same as ``mint``."""
        return frozenset((await self._read_once(secret, "acl", _Policy)).tag_owners or ())

    async def known_key(self, secret: Secret, key: Secret) -> KnownKey:
        """Look up an auth key by the id in it. Raises the same as ``mint``."""
        match = re.match(r"tskey-auth-([0-9A-Za-z]+)-", key.reveal())
        if match is None:
            raise OAuthRefusedError(INVALID, "the auth key has no id", "write it as it was issued")
        found = await self._read_once(secret, f"keys/{match[1]}", _KnownKey)
        create = found.capabilities.get("devices", {}).get("create", _Create())
        return KnownKey(create.reusable, create.tags, found.expires)

    async def _read_once(self, secret: Secret, path: str, kind: type[_Answer]) -> _Answer:
        """Read from the API once, without retries. Raises the same as ``mint``."""
        client, url = await self._prepared(secret, tags=False)

        async def read(session: aiohttp.ClientSession) -> _Answer:
            headers = await self._authorized(client, url, session)
            return await self._ask(session, f"{url}/api/v2/tailnet/-/{path}", kind, "GET", headers=headers)

        return await self._attempt(url, read)

    def _attempts(self) -> tenacity.AsyncRetrying:
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
            # A retry that would exceed the budget is not started, so that the caller learns the error now.
            stop=tenacity.stop_after_attempt(timing.attempts) | tenacity.stop_before_delay(timing.budget_s),
            reraise=True,
        )

    async def _attempt(self, url: str, work: Callable[[aiohttp.ClientSession], Awaitable[_Result]]) -> _Result:
        """Run ``work`` with a new session, within the time limit of one attempt. Raises OAuthUnavailableError."""
        import aiohttp

        try:
            async with asyncio.timeout(self._timing.attempt_s), _session() as session:
                return await work(session)
        except TimeoutError as error:
            raise silent(url, self._timing.attempt_s) from error
        except (aiohttp.InvalidURL, UnicodeError):
            # The API's own URL was checked before. The cause is dropped, as it may contain the proxy's password.
            why, what_to_do = bad_proxy(url)
            raise OAuthUnavailableError(f"cannot reach {_host(url)} to make an auth key: {why}", what_to_do) from None
        except aiohttp.ClientError as error:
            raise unreachable(url, error, self._redactor.mask_text) from error

    async def _exchange(self, client: ClientSecret, url: str, session: aiohttp.ClientSession) -> Usable:
        headers = await self._authorized(client, url, session)
        ephemeral = self._is_ephemeral(client)
        create = {"reusable": False, "ephemeral": ephemeral, "preauthorized": client.preauthorized}
        tags = list(self._tailnet.prefs.advertise_tags)
        wish = {"capabilities": {"devices": {"create": create | {"tags": tags}}}, "expirySeconds": KEY_LIVES_S}
        made = await self._ask(session, f"{url}/api/v2/tailnet/-/keys", _Key, json=wish, headers=headers)
        return Usable(Secret(self._kept(made.key, url)), ephemeral)

    async def _authorized(self, client: ClientSecret, url: str, session: aiohttp.ClientSession) -> dict[str, str]:
        """Exchange the client credentials for an access token, and return the headers that contain it."""
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
        """Mask a secret from now on, if it is set."""
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise nonsense(url)
        self._redactor.learn_short_lived(secret)
        return secret

    async def _ask(
        self, session: aiohttp.ClientSession, url: str, kind: type[_Answer], method: str = "POST", **sent: Any
    ) -> _Answer:
        """Send one request and return the response, decoded as ``kind``."""
        # Proxies are honoured, as by tailscaled.
        async with session.request(method, url, allow_redirects=False, proxy=proxy_for(url), **sent) as answer:
            body = await _read(answer.content, url, MOST_POLICY_BYTES if kind is _Policy else MOST_BODY_BYTES)
            if kind in _TO_READ and answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                what, scope = _TO_READ[kind]
                remedy = f"give it the scope {scope}, to read, under {_CONSOLE}"
                raise OAuthRefusedError(NOT_PERMITTED, _MAY_NOT_READ.format(what), remedy)
            if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
                raise of_answer(url, answer, body, self._redactor.mask_text, at_token=kind is _Token)
        try:
            return decode_json(body, kind)
        except msgspec.DecodeError as error:
            raise nonsense(url) from error

    def _is_ephemeral(self, client: ClientSecret) -> bool:
        """Return whether the device is ephemeral, by the secret's attribute, TS_EPHEMERAL, or Tailscale's default."""
        for word in (client.ephemeral, self._tailnet.ephemeral):
            if word is not None:
                return word
        return True


def _load_libraries() -> None:
    """Import what is needed to ask the API: it takes a tenth of a second, and most devices never ask."""
    for name in ("aiohttp.client", "tenacity"):
        import_alone(name)


def _session() -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        headers={"Accept": "application/json", "User-Agent": f"moltis-supervisor/{__version__}"},
        # A compressed body could decompress to any size.
        skip_auto_headers=("Accept-Encoding",),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _read(stream: aiohttp.StreamReader, url: str, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in stream.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise nonsense(url, f"has more than {most_bytes // 1024} KiB")
    return bytes(body)


_SALT = os.urandom(16)


class Credential(NamedTuple):
    """A key or an OAuth client secret; ``fingerprint`` identifies it without revealing it."""

    secret: Secret
    fingerprint: bytes


class Keys:
    """Provides login keys. ``redactor`` learns each secret before it is used, so that no text shows it."""

    def __init__(self, tailnet: TailnetSettings, redactor: Redactor) -> None:
        self._source = tailnet.auth_key or tailnet.client_secret
        self._client = OAuthClient(tailnet, redactor)
        self._learn = redactor.learn
        self._reader = TimedReader(self._source.read) if self._source is not None else None
        self.pasted: Secret | None = None
        self.trouble = ""

    async def current(self) -> Credential | None:
        """Return the current key or secret; None if there is none, or its file cannot be read (see ``trouble``)."""
        secret = self.pasted
        if secret is None and self._source is not None and self._reader is not None:
            try:
                secret = await self._reader.read()
            except (ConfigError, TimeoutError) as error:
                self.trouble = str(error if isinstance(error, ConfigError) else self._source.late())
                return None
        self.trouble = ""
        return None if secret is None else Credential(secret, fingerprint(secret))

    async def usable(self, credential: Credential) -> Usable:
        """Return an auth key; an OAuth client secret is exchanged for one.

        Raises OAuthRefusedError and OAuthUnavailableError.
        """
        secret = credential.secret
        self._learn(secret.reveal())
        source = "" if secret is self.pasted or self._source is None else self._source.name
        if is_client_secret(secret.reveal()) or source.startswith("TS_CLIENT_SECRET"):
            return await self._client.mint(secret)
        return Usable(secret)


def fingerprint(secret: Secret) -> bytes:
    """Return an identifier of a key within this run that does not reveal it."""
    # Python's own hash is keyed anew in each process, and enough here; hashlib would load libcrypto's, 2 MB.
    return hash((_SALT, secret.reveal())).to_bytes(8, "big", signed=True)
