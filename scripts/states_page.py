"""Writes docs/reference/states.md from the code's own tables: `python -m scripts.states_page > PAGE`."""

from __future__ import annotations

import sys

from scripts.transitions import transitions
from supervisor.backup.beginning import CHOICES
from supervisor.core.backup import BackupState, BackupView, Files, Head, SnapshotView, decide
from supervisor.core.process import EventKind, State
from supervisor.core.retry import LoginRetry
from supervisor.core.tailnet import Action, Choice, TailnetMachine
from supervisor.tailnet.held import of_backups
from supervisor.tailnet.view import Meaning, Situation, down, of_status
from supervisor.tailnet.wire import Node, Status

HEAD = """\
# States

<!-- This page is written by scripts/states_page.py from the code's own tables. -->

The states of a process and of the tailnet, and what leads from one state to the next.
[Health](health.md) derives its verdict from them.

## Processes

`moltis-supervisor status`, the panel and `GET /api/processes` show the state.

![A process's states](../explanation/process-states.svg)

"""
MEANS = {
    State.INACTIVE: "it was stopped, or never started",
    State.WAITING: "it waits until the processes in its `after` are ready, or a few seconds for the backups",
    State.RESTORING: "its start waits until its files are restored",
    State.STANDBY: "its start waits because another instance holds the repository",
    State.HELD: "its start waits for the backups, which are tried again; `held_why` has the reason",
    State.CHOOSE: "its start waits until the owner has chosen which files to use",
    State.SPAWNING: "it is being started",
    State.RUNNING: "it is alive; `ready` is the result of its probe",
    State.STOPPING: "it was asked to end",
    State.QUITTING: "it did not end in time and was asked for its stacks (tailscaled only)",
    State.KILLING: "it was killed, and has not ended yet",
    State.CLEANING: "it has ended, and what it left behind is being ended",
    State.BACKOFF: "it has failed and waits for its next attempt",
    State.ENDED: "it has ended for good, by its restart policy",
    State.FAILED: "it is critical and has been given up: everything stops, with exit code 70",
}
HAPPENS = {
    EventKind.START: "an operator, or the supervisor's own start, starts it",
    EventKind.STOP: "an operator, or the ordered stop, stops it",
    EventKind.RESTART: "an operator restarts it",
    EventKind.FORCE_STOP: "a second INT: it is killed at once",
    EventKind.HUNG: "it has not answered its probe for `SUPERVISOR_APP_HUNG`",
    EventKind.HOLD: "the backups hold every start, or their reason has changed",
    EventKind.LET_GO: "the backups no longer hold a start",
    EventKind.RELEASED: "the processes that it waited for are ready",
    EventKind.SPAWNED: "it was started",
    EventKind.SPAWN_FAILED: "it could not be started",
    EventKind.EXITED: "it has ended",
    EventKind.CLEANED: "everything that it left behind has ended",
    EventKind.RETRY_DUE: "its wait is over",
    EventKind.PROVEN: "it has stayed up for `SUPERVISOR_BACKOFF_RESET`: its failures are forgiven",
    EventKind.LIMIT_REACHED: "its time limit for ending is over",
}
# They may occur in every state, and are noted in most of them.
_HOLDING = (EventKind.HOLD, EventKind.LET_GO)
BETWEEN = """
If several states are possible, the restart policy, `critical`, `after` and orders received meanwhile decide.
Events missing from a row cannot happen in that state, except *hold* and *let go*, which are noted in every state.
While starts are held, every transition to `spawning` leads to the state that gives the reason instead.
That is `restoring`, `standby`, `held` or `held: choose`; such rows name only `held`.
`held_why` has the reason; see [Backups](backups.md#a-start).

| event | means |
|---|---|
"""
TAILNET = """
## The tailnet

`/health`, `moltis-supervisor status` and `GET /api/tailscale/status` show the state.
`why` and `what_to_do` give its reason and remedy.
The texts below are those of the simplest case of each state; [The tailnet](tailnet.md) has details.

| state | for example | why | what to do |
|---|---|---|---|
"""
REFUSAL = LoginRetry(refusals=3, kind="expired", error="invalid key: API key expired", next_try_s=60.0)
UNCLEAR = decide(None, Files.SOME, (SnapshotView("id"),), "", Head())[1]
# The simplest case of each state: its description, and the texts that the code derives.
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
    ("it is logged in and connecting", of_status(Status(backend_state="Starting"), Situation())),
    ("the tailnet requires approval of devices", of_status(Status(backend_state="NeedsMachineAuth"), Situation())),
    ("all is well", of_status(Status(backend_state="Running", node=Node(online=True)), Situation())),
    (
        "*Disconnect* was chosen",
        of_status(
            Status(backend_state="Stopped", have_node_key=True), Situation(TailnetMachine(choice=Choice.DISCONNECTED))
        ),
    ),
    ("a sidecar's owner ran `tailscale down`", of_status(Status(backend_state="Stopped"), Situation())),
    ("a person's login has expired", of_status(Status(backend_state="NeedsLogin"), Situation(expired=True))),
    (
        "the key has expired",
        of_status(Status(backend_state="NeedsLogin"), Situation(TailnetMachine(retry=REFUSAL))),
    ),
    ("the control server is unreachable", of_status(Status(backend_state="Running", node=Node()), Situation())),
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
        "the old container of a deploy is still running",
        of_backups(BackupView(BackupState.STANDBY, why="another instance holds the repository")),
    ),
    (
        "the bucket is unreachable at a start",
        of_backups(
            BackupView(
                BackupState.HELD, why="the repository has not answered for seconds", what_to_do="it is given more time"
            )
        ),
    ),
    (
        "there are files that belong to no known snapshot, and snapshots in the repository",
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
