"""Users and rights: who runs as whom, and what the kernel and the image let them do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.doctor.finding import Check
from supervisor.system import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.subject import Subject

_PAGE = "reference/image.md"
USERS = Check(
    "rights",
    "users",
    "the users that processes run as",
    "what one process has is closed to another of a user of its own alone",
    _PAGE,
)
LAUNCHER = Check(
    "rights",
    "launcher",
    "setpriv of util-linux, and what the kernel lets it do",
    "without it processes outlive a killed supervisor, and may gain privileges",
    _PAGE,
)
PROC = Check(
    "rights",
    "proc",
    "/proc of this container's own",
    "without it nothing finds what a process leaves behind, and commands over the control socket are refused",
    _PAGE,
)
CHECKS = (USERS, LAUNCHER, PROC)


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield what is to be said of users and rights."""
    named = {spec.name: spec.user.name if spec.user else "the supervisor's own" for spec in subject.plan.processes}
    told = ", ".join(f"{name}: {user}" for name, user in named.items())
    yield USERS.ok(f"the supervisor is {'root' if subject.host.uid == 0 else f'user {subject.host.uid}'}; {told}")
    for text in subject.plan.notices:
        yield USERS.note(text)
    if kernel.launcher():
        yield LAUNCHER.ok("it is there, and works")
    else:
        yield LAUNCHER.problem("there is none that works here", "install util-linux in the image")
    if kernel.shows_processes():
        yield PROC.ok("it is there")
    else:
        yield PROC.problem("it is not there, or another pid namespace's", "mount one in the container")
