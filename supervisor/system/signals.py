"""Signals: caught from the start, and read when the event loop is ready."""

from __future__ import annotations

import os
import signal
from collections import deque

STOP = (signal.SIGTERM, signal.SIGINT)
FOR_THE_APP = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGURG,
    signal.SIGIO,
    signal.SIGPWR,
    signal.SIGCONT,
    signal.SIGQUIT,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)


class Inbox:
    """The signals of this process in order; ``fd`` becomes readable when there is one.

    The pipe only wakes the loop: it may overflow without losing a signal, since the handlers keep a list.
    ``hangup_stops`` is whether HUP means that a person's terminal was closed.
    """

    def __init__(self) -> None:
        self.hangup_stops = False
        self._signals: deque[int] = deque()
        self.fd, self._wake_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._wake_fd, False)

    def open(self) -> None:
        """Start catching signals, including those that a parent had blocked or ignored; only on the main thread."""
        # Checked now, because the terminal is gone when HUP arrives. nohup ignores HUP.
        self.hangup_stops = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and has_terminal()
        signal.set_wakeup_fd(self._wake_fd, warn_on_full_buffer=False)
        taken = {signal.SIGCHLD, signal.SIGHUP, *STOP, *FOR_THE_APP}
        for number in taken:
            signal.signal(number, self._take)
        # Ignored and blocked signals are inherited across an exec. Python itself ignores PIPE and XFSZ, and restores
        # them for children.
        for number in signal.valid_signals() - taken - {signal.SIGPIPE, signal.SIGXFSZ}:
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _take(self, number: int, _frame: object) -> None:
        if number not in self._signals or number in STOP:
            self._signals.append(number)

    def read(self) -> list[int]:
        """Return the signals since the last call."""
        try:
            while os.read(self.fd, 4096):
                pass
        except BlockingIOError:
            pass
        taken = []
        while self._signals:
            taken.append(self._signals.popleft())
        return taken


def send(pid: int, number: int, *, group: bool = False) -> str:
    """Send a signal to a process, or to the group that it leads; return why the kernel refuses it.

    Empty on success, and if there is no such process.
    """
    try:
        (os.killpg if group else os.kill)(pid, number)
    except ProcessLookupError:
        # Right after the fork its group may not exist yet.
        return send(pid, number) if group else ""
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def signal_name(number: int | None) -> str | None:
    """Return a signal's name, such as SIGTERM; None if there was no signal."""
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
