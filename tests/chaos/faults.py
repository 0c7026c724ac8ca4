"""The catalogue of faults: each does something to a world, and may return what undoes it.

A fault is called in the phases and flavours that it names; by default in all. It must not fail where what it is aimed
at is not there: that is a moment of life too.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.world import SPOKEN, TOKEN, WRITERS, pause
from tests.process.running import SUPERVISOR

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.chaos.world import World

    Undo = Callable[[], object]
    Act = Callable[[World, random.Random], Undo | None]

# The moments of a life: see rounds.py for how each is reached.
PHASES = ("start", "running", "backoff", "cleaning", "stop")
NAMES = (*WRITERS, "looper")
_BEFORE_STOP = ("start", "running", "backoff", "cleaning")


class Flavour(NamedTuple):
    """A kind of world, and how often it is chosen."""

    weight: int


FLAVOURS = {"plain": Flavour(6), "process-1": Flavour(3), "drop": Flavour(1)}


class Kind(NamedTuple):
    """One entry of the catalogue."""

    act: Act
    phases: tuple[str, ...]
    flavours: tuple[str, ...]


KINDS: dict[str, Kind] = {}


def fault(
    name: str, phases: tuple[str, ...] = PHASES, flavours: tuple[str, ...] = tuple(FLAVOURS)
) -> Callable[[Act], Act]:
    """Put a fault into the catalogue under a name."""

    def add(act: Act) -> Act:
        KINDS[name] = Kind(act, phases, flavours)
        return act

    return add


def kinds_for(flavour: str, phase: str) -> list[str]:
    """Return the faults that such a world may meet in a phase."""
    return [name for name, kind in KINDS.items() if phase in kind.phases and flavour in kind.flavours]


# What happens to processes.


@fault("kill-child")
def _kill_child(world: World, chance: random.Random) -> None:
    world.signal(chance.choice(NAMES), signal.SIGKILL)


@fault("segv-child")
def _segv_child(world: World, chance: random.Random) -> None:
    world.signal(chance.choice(WRITERS), signal.SIGSEGV)


@fault("term-child")
def _term_child(world: World, chance: random.Random) -> None:
    world.signal(chance.choice(WRITERS), chance.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))


@fault("hold-child")
def _hold_child(world: World, chance: random.Random) -> Undo:
    name = chance.choice(WRITERS)
    pid = world.pid_of(name)
    world.signal(name, signal.SIGSTOP)

    def release() -> None:
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGCONT)

    return release


@fault("hold-supervisor", _BEFORE_STOP)
def _hold_supervisor(world: World, chance: random.Random) -> None:
    assert world.prober is not None
    world.prober.excuse(1)
    os.kill(world.pid, signal.SIGSTOP)
    pause(chance.uniform(0.05, 0.4))
    os.kill(world.pid, signal.SIGCONT)
    pause(0.05)
    world.prober.excuse(-1)


@fault("kill-supervisor", _BEFORE_STOP)
def _kill_supervisor(world: World, _chance: random.Random) -> None:
    world.kill()


@fault("exit-child")
def _exit_child(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), f"exit {chance.choice((0, 1, 2, 126, 127, 255))}")


@fault("abort-child")
def _abort_child(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "abort")


@fault("stubborn-child")
def _stubborn_child(world: World, _chance: random.Random) -> None:
    world.tell("side", "stubborn")


@fault("orphan-storm")
def _orphan_storm(world: World, chance: random.Random) -> None:
    world.tell("maker", f"zombies {chance.randint(20, 200)}")


@fault("daemons")
def _daemons(world: World, chance: random.Random) -> None:
    world.tell("maker", f"daemons {chance.randint(1, 30)}")
    world.tell("maker", f"exit {chance.choice((0, 1))}")


@fault("spinning-child")
def _spinning_child(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "spin 0.3")


# What happens to the log.


@fault("burst")
def _burst(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "burst 20000")


@fault("half-a-line")
def _half_a_line(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "half")


@fault("long-line")
def _long_line(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), f"long {chance.choice((15_359, 15_360, 70_000, 1_000_000))}")


@fault("rubbish-output")
def _rubbish_output(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "rubbish 50000")


@fault("spoken-secret")
def _spoken_secret(world: World, chance: random.Random) -> None:
    name = chance.choice(WRITERS)
    world.tell(name, f"say the password is {SPOKEN}, and {TOKEN}")
    world.tell(name, f"say {'y' * chance.randint(15_300, 15_380)}{SPOKEN}{'z' * 40}")


@fault("errors-burst")
def _errors_burst(world: World, chance: random.Random) -> None:
    world.tell(chance.choice(WRITERS), "errors 2000")


@fault("consumer-stalls")
def _consumer_stalls(world: World, chance: random.Random) -> Undo:
    world.unread = True
    world.output.stall(chance.uniform(0.1, 1.5))
    world.tell(chance.choice(WRITERS), "burst 20000")
    return world.output.come_back


@fault("consumer-goes")
def _consumer_goes(world: World, chance: random.Random) -> Undo:
    world.unread = True
    world.output.go_away()
    pause(chance.uniform(0, 0.4))
    return world.output.come_back


@fault("output-does-not-block")
def _output_does_not_block(world: World, chance: random.Random) -> None:
    """Another process that shares the description of standard output has changed its mode."""
    os.set_blocking(world.shared_output, False)
    world.unread = True
    world.output.stall(0.3)
    world.tell(chance.choice(WRITERS), "burst 5000")


# What people, platforms and programs send.


@fault("signals")
def _signals(world: World, chance: random.Random) -> None:
    harmless = (signal.SIGHUP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)
    for _ in range(200):
        with contextlib.suppress(ProcessLookupError):
            os.kill(world.pid, chance.choice(harmless))


@fault("signals-for-app")
def _signals_for_app(world: World, chance: random.Random) -> None:
    for _ in range(5):
        with contextlib.suppress(ProcessLookupError):
            os.kill(world.pid, chance.choice((signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)))


@fault("term-again", ("stop",))
def _term_again(world: World, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(world.pid, signal.SIGTERM)


@fault("interrupt-twice", ("stop",))
def _interrupt_twice(world: World, _chance: random.Random) -> None:
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):
            os.kill(world.pid, signal.SIGINT)
        pause(0.02)


@fault("orders")
def _orders(world: World, chance: random.Random) -> None:
    for _ in range(chance.randint(2, 12)):
        with contextlib.suppress(OSError):
            world.api("POST", f"/api/processes/{chance.choice(NAMES)}/{chance.choice(('start', 'stop', 'restart'))}")


@fault("orders-at-once")
def _orders_at_once(world: World, chance: random.Random) -> Undo:
    def give(name: str, verb: str) -> None:
        with contextlib.suppress(OSError):
            world.api("POST", f"/api/processes/{name}/{verb}")

    pairs = [(chance.choice(NAMES), chance.choice(("start", "stop", "restart"))) for _ in range(8)]
    threads = [threading.Thread(target=give, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()

    def wait() -> None:
        for thread in threads:
            thread.join()

    return wait


@fault("second-supervisor")
def _second_supervisor(world: World, _chance: random.Random) -> None:
    env = {"PATH": os.environ["PATH"], "PORT": "0", "SUPERVISOR_RUN_DIR": str(world.run_dir)}
    env["SUPERVISOR_TAILSCALE"] = "off"
    done = subprocess.run([*SUPERVISOR, "--", "true"], env=env, capture_output=True, cwd="/", timeout=30, check=False)
    if world.is_alive() and done.returncode != 78:
        world.problems.append(f"a second supervisor ended with {done.returncode}: {done.stderr[-300:]!r}")


# What comes over the network.


def _connections(world: World, count: int, data: bytes) -> Undo:
    """Open so many connections, send each this, and keep them open until it is undone."""
    opened = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            sock = socket.socket()
            opened.append(sock)
            sock.settimeout(1)
            sock.connect(("127.0.0.1", world.port))
            sock.sendall(data)

    def close() -> None:
        for sock in opened:
            sock.close()

    return close


@fault("idle-connections")
def _idle_connections(world: World, chance: random.Random) -> Undo:
    return _connections(world, chance.randint(50, 300), b"")


@fault("half-open-requests")
def _half_open_requests(world: World, chance: random.Random) -> Undo:
    return _connections(world, chance.randint(10, 100), b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: ")


@fault("rubbish-requests")
def _rubbish_requests(world: World, chance: random.Random) -> Undo:
    return _connections(world, 30, chance.randbytes(chance.choice((1, 100, 40_000))))


@fault("silent-event-streams")
def _silent_event_streams(world: World, chance: random.Random) -> Undo:
    head = f"GET /api/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    return _connections(world, chance.randint(2, 20), head.encode())


@fault("wrong-tokens")
def _wrong_tokens(world: World, chance: random.Random) -> Undo:
    body = f'{{"token": "{chance.random()}"}}'
    head = f"POST /api/session HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return _connections(world, 40, f"{head}\r\n\r\n{body}".encode())


# What the machine runs out of.


@fault("few-descriptors", _BEFORE_STOP)
def _few_descriptors(world: World, chance: random.Random) -> Undo | None:
    pid = world.pid
    with contextlib.suppress(OSError):
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(8, used - chance.randint(0, 8)), limits[1]))

        def restore() -> None:
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

        return restore
    return None
