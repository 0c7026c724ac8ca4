"""Checks users and rights: which user each process has, and what the kernel and the image allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.doctor.finding import Check, split_remedy
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
    "a process is protected from the others only if it has a user of its own",
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
SANDBOX = Check(
    "rights",
    "sandbox",
    "the kernel, and the features that the supervisor lacks there",
    "some sandboxes report no memory limit, and protect a process's memory less",
    "explanation/app-platform.md",
)
CHECKS = (USERS, LAUNCHER, PROC, SANDBOX)
_ALONE = "create that user in the image, so that each process has its own"
# capabilities(7).
_SYS_ADMIN = 21


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about users and rights."""
    named = {spec.name: spec.user.name if spec.user else "the supervisor's own" for spec in subject.plan.processes}
    told = ", ".join(f"{name}: {user}" for name, user in named.items())
    yield USERS.ok(f"the supervisor runs as {'root' if subject.host.uid == 0 else f'user {subject.host.uid}'}; {told}")
    for text in subject.plan.notices:
        yield USERS.note(*split_remedy(text, _ALONE))
    if kernel.launcher():
        yield LAUNCHER.ok("it is there, and works")
    else:
        yield LAUNCHER.problem("there is none that works here", "install util-linux in the image")
    if kernel.shows_processes():
        yield PROC.ok("it is there")
    else:
        yield PROC.problem("it is not there, or belongs to another pid namespace", "mount one in the container")
    yield _sandbox()


def _sandbox() -> Diagnosis:
    if kernel.is_gvisor():
        return SANDBOX.note(
            "gVisor: it reports no limits of memory and processes, and everything starts more slowly",
            "see the platform's own pages for the limits",
        )
    if (kernel.effective_capabilities() or 0) >> _SYS_ADMIN & 1:
        return SANDBOX.note(
            "Linux; this process has the rights of the whole machine, which it does not need",
            "run the container without `--privileged`",
        )
    return SANDBOX.ok("Linux")
