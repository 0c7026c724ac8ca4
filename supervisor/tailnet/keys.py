"""Which key the device logs in with: one that was pasted, else that of the settings, read anew each time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from supervisor.errors import ConfigError
from supervisor.runtime.loop_latency import run_in_thread
from supervisor.tailnet.oauth import OAuthClient, is_client_secret

if TYPE_CHECKING:
    from supervisor.config.model import TailnetSettings
    from supervisor.logs.redact import Redactor
    from supervisor.secret import Secret

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
