"""What is declared of a setting, and the words that the declarations share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config import parsers
from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from supervisor.config.parsers import Kind

Condition = tuple[str, tuple[str, ...]]

TAILNET: Condition = ("SUPERVISOR_TAILSCALE", ("embedded", "attach"))
EMBEDDED: Condition = ("SUPERVISOR_TAILSCALE", ("embedded",))
ATTACHED: Condition = ("SUPERVISOR_TAILSCALE", ("attach",))
APP: Condition = ("SUPERVISOR_APP", ("on",))
PRIVATE: Condition = ("SUPERVISOR_EXPOSE", ("tailnet",))
PUBLIC: Condition = ("SUPERVISOR_EXPOSE", ("public",))

GENERAL = "General"
EXPOSURE = "Who is reached where"
THE_APP = "The app"
RESTARTS = "Stops and restarts"
LOGS = "Logs"
TAILSCALE = "Tailnet"
PANEL = "Panel"
BACKUPS = "Backups"


class Setting(NamedTuple):
    """One setting.

    ``default`` is written as a person would write it; None where there is none or it depends on the machine, and
    then ``default_said`` tells it. ``when`` lists the conditions under which it has an effect.
    """

    name: str
    kind: Kind
    default: str | None
    section: str
    meaning: str
    when: tuple[Condition, ...] = ()
    default_said: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """Return every name that gives it a value, the first one first."""
        names = (self.name, *self.aliases)
        return names + tuple(f"{name}_FILE" for name in names) if self.kind is parsers.SECRET else names

    @property
    def default_text(self) -> str:
        """Return the default in words."""
        return self.default_said or self.default or "none"
