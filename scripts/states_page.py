"""Writes docs/reference/states.md from the code's own tables: `python -m scripts.states_page > PAGE`."""

from __future__ import annotations

import sys

from scripts.transitions import transitions
from supervisor.backup.beginning import CHOICES
from supervisor.core.backup import BackupState, BackupView, Files, SnapshotView, decide
from supervisor.core.process import EventKind, State
from supervisor.core.retry import LoginRetry
from supervisor.core.tailnet import Action, Choice, TailnetMachine
from supervisor.tailnet.held import of_backups
from supervisor.tailnet.view import Meaning, Situation, down, of_status
from supervisor.tailnet.wire import Node, Status

HEAD = """\
# States

<!-- This page is written by scripts/states_page.py from the code's own tables. -->

What a process and the tailnet can be, and what leads from one state to the next.
Health makes its verdict of these: see [Health](health.md).

## Processes

`moltis-supervisor status`, the panel and `GET /api/processes` show the state.

![A process's states](../explanation/process-states.svg)

"""
MEANS = {
    State.INACTIVE: "it was stopped, or never started",
    State.WAITING: "it waits until those that it needs are ready, or for the backups, which passes within seconds",
    State.RESTORING: "its start waits until its files are restored",
    State.STANDBY: "its start waits because another instance holds the repository",
    State.HELD: "its start waits for the backups: the reason is told, and it is tried again",
    State.CHOOSE: "its start waits until the owner has chosen which files count",
    State.SPAWNING: "it is being started",
    State.RUNNING: "it is alive; whether it is ready is told beside it",
    State.STOPPING: "it was asked to end",
    State.QUITTING: "it did not end in time and was asked for its stacks (tailscaled alone)",
    State.KILLING: "it was killed, and its end is waited for",
    State.CLEANING: "it has ended, and what it left behind is being ended",
    State.BACKOFF: "it has failed and waits for its next try",
    State.ENDED: "it has ended for good, by its restart policy",
    State.FAILED: "it is critical and has been given up: everything stops, with exit code 70",
}
HAPPENS = {
    EventKind.START: "somebody, or the supervisor's own start, wants it to run",
    EventKind.STOP: "somebody, or the ordered stop, wants it to end",
    EventKind.RESTART: "somebody wants it to end and to be started again",
    EventKind.FORCE_STOP: "a second INT: it is to be over at once",
    EventKind.HUNG: "it has not answered its probe for `SUPERVISOR_APP_HUNG`",
    EventKind.HOLD: "the backups hold every start, or for another reason than before",
    EventKind.LET_GO: "the backups hold no start any more",
    EventKind.RELEASED: "those that it waited for are ready",
    EventKind.SPAWNED: "it was started",
    EventKind.SPAWN_FAILED: "it could not be started",
    EventKind.EXITED: "it ended",
    EventKind.CLEANED: "nothing that it left behind is alive",
    EventKind.RETRY_DUE: "its wait is over",
    EventKind.PROVEN: "it has stayed up for `SUPERVISOR_BACKOFF_RESET`: its failures are forgiven",
    EventKind.LIMIT_REACHED: "the time that it had for ending is over",
}
# They may come in every state, and are noted in most of them.
_HOLDING = (EventKind.HOLD, EventKind.LET_GO)
BETWEEN = """
Where several states may follow, the restart policy, `critical`, `after` and what was ordered meanwhile decide.
Whatever does not stand in a row cannot happen in that state, but for *hold* and *let go*, which are noted in each.
While starts are held, every way to `spawning` ends in the state that tells why.
That is `restoring`, `standby`, `held` or `held: choose`, of which such rows name `held` alone.
The reason stands in `held_why`; see [Backups](backups.md#a-start).

| event | means |
|---|---|
"""
TAILNET = """
## The tailnet

`/health`, `moltis-supervisor status` and `GET /api/tailscale/status` show the state.
Beside it stand `why` and `what_to_do`.
The texts below are what the code says in the plainest case of each; [The tailnet](tailnet.md) says more about them.

| state | for example | why | what to do |
|---|---|---|---|
"""
REFUSAL = LoginRetry(refusals=3, kind="expired", error="invalid key: API key expired", next_try_s=60.0)
UNCLEAR = decide(None, Files.SOME, (SnapshotView("id"),), "")[1]
# The plainest case of each state: what it is an example of, and what the code makes of it.
CASES: tuple[tuple[str, Meaning], ...] = (
    ("tailscaled was started a moment ago", down("it does not answer yet", begun=True)),
    ("no key is set", of_status(Status(backend_state="NeedsLogin"), Situation())),
    (
        "no key is set, and a login URL waits",
        of_status(Status(backend_state="NeedsLogin"), Situation(TailnetMachine(url=True))),
    ),
    (
        "it was removed in the admin console",
        of_status(Status(backend_state="NeedsLogin"), Situation(TailnetMachine(had_login=True))),
    ),
    (
        "a key was handed over",
        of_status(Status(backend_state="NeedsLogin"), Situation(TailnetMachine(running=Action.LOG_IN))),
    ),
    ("it is logged in and on its way in", of_status(Status(backend_state="Starting"), Situation())),
    ("the tailnet approves devices by hand", of_status(Status(backend_state="NeedsMachineAuth"), Situation())),
    ("all is well", of_status(Status(backend_state="Running", node=Node(online=True)), Situation())),
    (
        "*Disconnect* was chosen",
        of_status(
            Status(backend_state="Stopped", have_node_key=True), Situation(TailnetMachine(choice=Choice.DISCONNECTED))
        ),
    ),
    ("a sidecar's owner ran `tailscale down`", of_status(Status(backend_state="Stopped"), Situation())),
    ("a person's login is over", of_status(Status(backend_state="NeedsLogin"), Situation(expired=True))),
    (
        "the key has expired",
        of_status(Status(backend_state="NeedsLogin"), Situation(TailnetMachine(retry=REFUSAL))),
    ),
    ("control is away", of_status(Status(backend_state="Running", node=Node()), Situation())),
    ("tailscaled has ended, or hangs", down("it does not answer", begun=False)),
    (
        "the disk is full, or the state file damaged",
        of_status(Status(health=("State store failed to initialize.",)), Situation()),
    ),
    ("the container runs without a network", of_status(Status(), Situation(has_network=False))),
    (
        "the newest snapshot is being restored",
        of_backups(BackupView(BackupState.RESTORING, progress=0.4)),
    ),
    (
        "the old container of a deploy still works",
        of_backups(BackupView(BackupState.STANDBY, why="another instance holds the repository")),
    ),
    (
        "the bucket is away at a start",
        of_backups(
            BackupView(
                BackupState.HELD, why="the repository has not answered for seconds", what_to_do="it is waited for"
            )
        ),
    ),
    (
        "there are files that no snapshot is known of, and snapshots in the repository",
        of_backups(BackupView(BackupState.CHOOSE, why=UNCLEAR, what_to_do=CHOICES)),
    ),
)


def page() -> str:
    """Return the whole page."""
    lines = [HEAD, "| state | means | what may happen, and what it leads to |\n|---|---|---|\n"]
    for state, row in transitions().items():
        leading = {kind: targets for kind, targets in row.items() if kind not in _HOLDING or targets != (state,)}
        ways = "; ".join(f"{kind.value} → {_targets(state, targets)}" for kind, targets in leading.items())
        lines.append(f"| `{state.value}` | {MEANS[state]} | {ways} |\n")
    lines += [BETWEEN, *(f"| {kind.value} | {HAPPENS[kind]} |\n" for kind in EventKind), TAILNET]
    for example, meaning in CASES:
        why, what_to_do = (text.replace("|", "\\|") or "nothing" for text in (meaning.why, meaning.what_to_do))
        lines.append(f"| `{meaning.state}` | {example} | {why} | {what_to_do} |\n")
    return "".join(lines)


def _targets(state: State, targets: tuple[State, ...]) -> str:
    names = [f"`{target.value}`" for target in targets if target is not state]
    return " or ".join([*names, *(["as it is"] if state in targets else [])])


if __name__ == "__main__":
    sys.stdout.write(page())
