"""Has Tailscale's API make an auth key for an OAuth client: tailscaled itself takes no client secret.

Two requests, as the `tailscale` program sends them (tailscale.com/feature/oauthkey): client credentials for an access
token, and that for a key.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from supervisor import __version__
from supervisor.config.oauth import ClientSecret, is_client_secret, parse
from supervisor.config.parsers import UnfitError
from supervisor.runtime.loop_latency import run_in_thread
from supervisor.secret import Secret
from supervisor.tailnet import oauth_errors as errors
from supervisor.tailnet.oauth_errors import OAuthRefusedError, OAuthUnavailableError

if TYPE_CHECKING:
    import aiohttp
    import tenacity

    from supervisor.config.model import TailnetSettings
    from supervisor.logs.redact import Redactor

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


_Answer = TypeVar("_Answer", _Token, _Key)


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
        try:
            client = parse(secret.reveal())
        except UnfitError as error:
            raise errors.malformed(str(error)) from error
        if not self._tailnet.prefs.tags:
            raise errors.no_tags()
        # Servers repeat the part behind the last dash alone, too.
        for part in (client.value.reveal(), client.value.reveal().rpartition("-")[2]):
            self._redactor.learn(part)
        url = client.api_url or self._tailnet.api_url
        # It takes a tenth of a second, and most devices never need it.
        await run_in_thread(import_module, "aiohttp.client")
        try:
            async with asyncio.timeout(self._timing.budget_s):
                async for attempt in self._attempts():
                    with attempt:
                        return await self._attempt(client, url)
        except TimeoutError as error:
            raise errors.silent(url, self._timing.budget_s) from error
        raise AssertionError("the attempts ended without an answer")

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
            raise errors.silent(url, self._timing.attempt_s) from error
        except aiohttp.ClientError as error:
            raise errors.unreachable(url, error, self._redactor.mask_text) from error

    async def _exchange(self, session: aiohttp.ClientSession, client: ClientSecret, url: str) -> Minted:
        secret = client.value.reveal()
        client_id = self._tailnet.client_id or client.client_id
        form = {"grant_type": "client_credentials", "client_secret": secret}
        if client_id:
            form["client_id"] = client_id
        token = await self._ask(session, f"{url}/api/v2/oauth/token", _Token, data=form)
        if token.token_type.lower() != "bearer":
            raise errors.nonsense(url)
        access = self._kept(token.access_token, url)
        ephemeral = self._is_ephemeral(client)
        create = {"reusable": False, "ephemeral": ephemeral, "preauthorized": client.preauthorized}
        tags = list(self._tailnet.prefs.tags)
        wish = {"capabilities": {"devices": {"create": create | {"tags": tags}}}, "expirySeconds": KEY_LIVES_S}
        headers = {"Authorization": f"Bearer {access}"}
        made = await self._ask(session, f"{url}/api/v2/tailnet/-/keys", _Key, json=wish, headers=headers)
        return Minted(Secret(self._kept(made.key, url)), ephemeral)

    def _kept(self, secret: str, url: str) -> str:
        """Have a secret masked from now on, if it is one."""
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise errors.nonsense(url)
        self._redactor.learn(secret)
        return secret

    async def _ask(self, session: aiohttp.ClientSession, url: str, kind: type[_Answer], **sent: Any) -> _Answer:
        """Send one POST and return the answer of that kind."""
        # The way out may lead through a proxy, as tailscaled's own does. aiohttp's trust_env would read .netrc as well.
        async with session.post(url, allow_redirects=False, proxy=_proxy_for(url), **sent) as answer:
            body = await _read(answer.content, url)
            if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
                refused = errors.Answer(answer.status, body, answer.headers.get("Retry-After", ""))
                raise errors.of_answer(url, refused, self._redactor.mask_text, at_token=kind is _Token)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise errors.nonsense(url) from error

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
            raise errors.nonsense(url)
    return bytes(body)
