"""The incident: one failure or one action of an operator, with its details."""

from __future__ import annotations

from typing import Annotated

import msgspec

# A process exited: with an error, with success though it should keep running, by a KILL from outside, after a hang,
# for lack of memory, or it could not be started.
CRASH, EXIT, KILLED, HANG = "crash", "exit", "killed", "hang"
OUT_OF_MEMORY, NOT_STARTED = "out-of-memory", "not-started"
GIVE_UP, LOGIN_FAILED, TAILNET_AWAY, UNHEALTHY = "give-up", "login-failed", "tailnet-away", "unhealthy"
BACKUP_FAILED, RESTORE_FAILED, BACKUP, RESTORE = "backup-failed", "restore-failed", "backup", "restore"
# The container's end.
END = "end"
PROCESS_ENDS = (CRASH, EXIT, KILLED, HANG, OUT_OF_MEMORY, NOT_STARTED)
# These have a duration; ``until_s`` is None while they last.
LASTING = (TAILNET_AWAY, UNHEALTHY)
INCIDENT_KINDS = (
    *PROCESS_ENDS,
    *(GIVE_UP, LOGIN_FAILED, TAILNET_AWAY, UNHEALTHY, BACKUP_FAILED, RESTORE_FAILED, BACKUP, RESTORE, END),
)
INFO, WARNING, ERROR = "info", "warning", "error"
INCIDENT_LEVELS = (INFO, WARNING, ERROR)


# Limits of one incident's texts and last lines, so that a hundred fit into the folder's total.
_TEXT_CHARACTERS, _LINE_CHARACTERS, _LINES_BYTES = 600, 500, 5000


# Seconds since the epoch, as far as a date can be made of them.
Epoch = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Incident(msgspec.Struct, frozen=True, omit_defaults=True):
    """One incident. Times are seconds since the epoch, texts are masked.

    ``subject`` is a process, the tailnet, the backups, the health or the container. ``what`` is what happened, ``why``
    the reported reason, ``cause`` the derived one, and ``done`` what was done about it. ``times`` is the number of like
    incidents that this one stands for, the last at ``last_s``. ``run`` is the supervisor's run that it belongs to,
    ``by`` who requested it.
    """

    id: str
    at_s: Epoch
    kind: str
    subject: str
    level: str
    what: str
    why: str = ""
    cause: str = ""
    done: str = ""
    code: int | None = None
    signal: str = ""
    uptime_s: float | None = None
    peak_bytes: int | None = None
    limit_bytes: int | None = None
    last_lines: tuple[str, ...] = ()
    until_s: Epoch | None = None
    times: int = 1
    last_s: Epoch | None = None
    run: str = ""
    version: str = ""
    by: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it can still change: its end, or what is done about it, is not known yet."""
        if self.kind in LASTING:
            return self.until_s is None
        return self.kind in PROCESS_ENDS and not self.done


def within_limits(incident: Incident) -> Incident:
    """Return it with its texts and last lines cut to their limits."""
    texts = {}
    for name in incident.__struct_fields__:
        value = getattr(incident, name)
        # The id is the file's name.
        if isinstance(value, str) and name != "id":
            texts[name] = shortened(value)
    lines = [shortened(line, _LINE_CHARACTERS) for line in incident.last_lines]
    size = sum(len(line.encode(errors="replace")) for line in lines)
    while size > _LINES_BYTES:
        size -= len(lines.pop().encode(errors="replace"))
    return msgspec.structs.replace(incident, **texts, last_lines=tuple(lines))


def shortened(text: str, most: int = _TEXT_CHARACTERS) -> str:
    """Return a text without its middle if it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"
