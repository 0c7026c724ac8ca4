"""A test app that follows orders from a named pipe, one per line: `app.py PIPE`.

`say TEXT` prints; `flood RATE SECONDS` prints that many numbered lines a second; `end CODE` exits with that code;
`slow` makes it ignore TERM until `end`.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
import time

TICK_S = 0.02


def say(text: str) -> None:
    r"""Print a text; escapes such as \x1b become the characters they stand for."""
    sys.stdout.write(codecs.decode(text, "unicode_escape") + "\n")
    sys.stdout.flush()


def flood(rate: int, seconds: float) -> None:
    """Print numbered lines in small batches."""
    number, begin_s = 0, time.monotonic()
    while number < rate * seconds:
        due = min(int((time.monotonic() - begin_s) * rate), int(rate * seconds))
        sys.stdout.write("".join(f"flood line {each} of many, as long as lines are\n" for each in range(number, due)))
        sys.stdout.flush()
        number = due
        time.sleep(TICK_S)


def main() -> None:
    """Follow the orders until `end`."""
    say("ready")
    # Opened for reading and writing, so that no EOF is read when a writer closes the pipe.
    with os.fdopen(os.open(sys.argv[1], os.O_RDWR), encoding="utf-8") as pipe:
        for line in iter(pipe.readline, ""):
            order, _, rest = line.rstrip("\n").partition(" ")
            if order == "say":
                say(rest)
            elif order == "flood":
                flood(int(rest.split()[0]), float(rest.split()[1]))
            elif order == "slow":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                say("slow now")
            elif order == "end":
                os._exit(int(rest))


if __name__ == "__main__":
    main()
