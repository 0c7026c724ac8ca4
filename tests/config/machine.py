"""A fake machine with its users, and the rights of this process on it; it stands in for images that are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.config.build import resolve
from supervisor.config.users import Host
from supervisor.core.process import User

if TYPE_CHECKING:
    from supervisor.config.plan import Plan

MOLTIS = User("moltis", 1001, 1001, "/home/moltis")
TAILSCALE = User("tailscale", 1002, 1002, "/home/tailscale")


class Machine(Host):
    """A `Host` that describes such a machine."""

    def __init__(
        self,
        uid: int = 0,
        users: tuple[User, ...] = (),
        missing: tuple[str, ...] = (),
        *,
        volumes: bool = True,
        addresses: tuple[str, ...] | None = None,
        missing_ids: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.uid = uid
        self._volumes = volumes
        self.cwd = "/srv"
        self._users = users
        self._missing = missing
        self._addresses = addresses
        self._missing_ids = missing_ids or {}

    @property
    def home(self) -> str:
        """Return this process's own home folder."""
        return "/root"

    def find_user(self, name: str) -> User | None:
        """Return the user with this name or number."""
        return next((user for user in self._users if name in {user.name, str(user.uid)}), None)

    def groups_of(self, user: User) -> frozenset[int]:
        """Return the ids of every group a user is in."""
        return frozenset({user.gid})

    def missing_capabilities(self) -> tuple[str, ...]:
        """Return the capabilities that root lacks."""
        return self._missing

    def missing_ids(self, user: User) -> tuple[str, ...]:
        """Return the ids that its user namespace lacks."""
        return self._missing_ids.get(user.name, ())

    def folder_exists(self, path: str) -> bool:
        """Return whether a folder exists."""
        return path.startswith("/home/")

    def outlives_container(self, path: str) -> bool:
        """Return whether a folder is on a volume."""
        return self._volumes and path.startswith("/var/")

    def free_port(self, address: str) -> int:
        """Return a free port; 0 if the machine lacks the address."""
        return 40000 if self._addresses is None or address in self._addresses else 0

    def wildcard(self) -> str:
        """Return the wildcard address of the only address family, or of IPv4 if there are both."""
        return "0.0.0.0" if self._addresses is None or any("." in each for each in self._addresses) else "::"


IMAGE = Machine(users=(MOLTIS, TAILSCALE))
BARE = Machine()


def plan(environ: dict[str, str] | None = None, machine: Host = BARE, **more: Any) -> Plan:
    """Return the plan of these settings on that machine."""
    return resolve({"PATH": "/usr/bin:/bin", "HOME": "/root", **(environ or {})}, host=machine, **more)
