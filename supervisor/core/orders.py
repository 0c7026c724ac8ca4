"""What an owner may want of the tailnet: travels down from the API and the commands to whoever carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from supervisor.secret import Secret


class Connect(NamedTuple):
    """Be connected: log in with ``auth_key`` where one is given, else reconnect, or ask for a login URL."""

    auth_key: Secret | None = None


class Disconnect(NamedTuple):
    """Be disconnected until the next Connect; ``forget`` logs the device out as well."""

    forget: bool = False


TailnetOrder = Connect | Disconnect
