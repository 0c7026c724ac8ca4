"""Signals: caught from the first moment on, read whenever the loop gets to it."""

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
    """Every signal this process gets, in order; ``fd`` becomes readable when there is one.

    The pipe only wakes: it may overflow without a signal being lost, since the handlers keep the list.
    ``hangup_stops`` tells whether HUP means that a person's terminal was closed.
    """

    def __init__(self) -> None:
        self.hangup_stops = False
        self._signals: deque[int] = deque()
        self.fd, self._wake_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._wake_fd, False)

    def open(self) -> None:
        """Begin to take signals, whatever a parent had blocked or ignored; only on the main thread."""
        # Checked now: by the time HUP comes the terminal is gone. Under nohup it is ignored.
        self.hangup_stops = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and has_terminal()
        signal.set_wakeup_fd(self._wake_fd, warn_on_full_buffer=False)
        taken = {signal.SIGCHLD, signal.SIGHUP, *STOP, *FOR_THE_APP}
        for number in taken:
            signal.signal(number, self._take)
        # What is ignored or blocked stays so over an exec: children would inherit it. PIPE and XFSZ are Python's own,
        # which it gives back to a child.
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

    That is empty where it does not, or where there is no such process.
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
    """Tell whether a terminal controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
