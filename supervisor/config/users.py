"""Decides whom each child runs as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.namedtuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.config.diagnostics import Report
    from supervisor.config.host import Host
    from supervisor.config.model import Settings
    from supervisor.core.process import ProcessSpec, User

TAILSCALE_USER = "tailscale"
APP_USER = "moltis"


class Users(NamedTuple):
    """Whom children run as; None stands for the supervisor itself. ``further`` is by process name."""

    tailscale: User | None
    app: User | None
    further: dict[str, User | None]


def choose(settings: Settings, host: Host, report: Report) -> Users:
    """Return the users that exist; tell about those that do not."""
    wished = {process.name: process.user for process in settings.processes}
    if host.uid != 0:
        _say_not_root(settings, host, report)
        return Users(None, None, dict.fromkeys(wished))
    has_tailscaled = settings.tailnet.mode == "embedded"
    # A panel beside a sidecar starts nothing.
    has_children = has_tailscaled or settings.app.enabled or bool(settings.processes)
    missing = host.missing_capabilities() if has_children else ()
    if missing:
        report.problem(
            "run children as other users and stop them",
            f"this is root without the capabilities {', '.join(missing)}",
            "add SETUID, SETGID and KILL to the container's capabilities, or start it as another user "
            "(docker run --user 1000)",
        )
    tailscale = (
        _one(settings.tailnet.user, TAILSCALE_USER, "SUPERVISOR_TAILSCALE_USER", host, report)
        if has_tailscaled
        else None
    )
    needs_app_user = settings.app.enabled or settings.app.user is not None or None in wished.values()
    app = _one(settings.app.user, APP_USER, "SUPERVISOR_APP_USER", host, report) if needs_app_user else None
    further = {
        name: app if user is None else _named(user, f"user in [process.{name}]", host, report)
        for name, user in wished.items()
    }
    if has_tailscaled:
        others = [app] if settings.app.enabled else []
        _say_open_state(tailscale, [*others, *further.values()], report)
    return Users(tailscale, app, further)


def shared(specs: Sequence[ProcessSpec]) -> tuple[ProcessSpec, ...]:
    """Return the processes with ``shares_user`` set where another runs as the same user."""
    uids = [spec.user.uid if spec.user else None for spec in specs]
    return tuple(
        spec._replace(shares_user=uid is None or uids.count(uid) > 1) for spec, uid in zip(specs, uids, strict=True)
    )


def _one(wished: str | None, default: str, setting: str, host: Host, report: Report) -> User | None:
    if wished is not None:
        return _named(wished, setting, host, report)
    user = host.find_user(default)
    if user is None:
        report.notices.append(f"there is no user {default}: its processes run as the supervisor itself ({setting})")
    return _unless_self(user, host)


def _named(name: str, setting: str, host: Host, report: Report) -> User | None:
    user = host.find_user(name)
    if user is None:
        report.problem(f"use {setting} {name!r}", "there is no such user", "make it in the image, or name another one")
    return _unless_self(user, host)


def _unless_self(user: User | None, host: Host) -> User | None:
    return None if user is None or user.uid == host.uid else user


def _say_open_state(tailscale: User | None, others: list[User | None], report: Report) -> None:
    if any(other is None or (tailscale is not None and other.uid == tailscale.uid) for other in others):
        report.notices.append(_OPEN_STATE)


def _say_not_root(settings: Settings, host: Host, report: Report) -> None:
    if settings.tailnet.mode == "embedded" and (settings.app.enabled or settings.processes):
        report.notices.append(f"not started as root: {_OPEN_STATE}")
    if settings.app.enabled or settings.processes:
        _say_open_secrets(settings, report)
    named = [("SUPERVISOR_TAILSCALE_USER", settings.tailnet.user), ("SUPERVISOR_APP_USER", settings.app.user)]
    named += [(f"user in [process.{process.name}]", process.user) for process in settings.processes]
    for setting, name in named:
        user = host.find_user(name) if name is not None else None
        if name is not None and (user is None or user.uid != host.uid):
            report.warnings.append(f"{setting} has no effect: only root can run children as other users")


def _say_open_secrets(settings: Settings, report: Report) -> None:
    """Tell which secrets the app can read where it runs as the supervisor's own user; its password is its own."""
    secrets = [source for source in settings.secrets if source != settings.app.password]
    values = " and ".join(source.name for source in secrets if source.path is None)
    if values:
        report.warnings.append(
            f"the app can read {values}: a value stands in the environment of every health check and command, which "
            "run as the app's own user here; start as root, with a user for each"
        )
    report.notices += [
        f"the app can read {source.path}, which has to be readable for its user here; start as root, with a user for "
        "each, to close it"
        for source in secrets
        if source.path is not None
    ]


_OPEN_STATE = (
    "tailscaled's state and socket are open to the processes that run as the same user; "
    "start as root, with a user for each, to close them"
)
