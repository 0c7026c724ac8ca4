"""Sends alerts from its own thread: no other component waits for it, or fails with it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from supervisor import __version__
from supervisor.backoff import Backoff, delay_s, random_jitter
from supervisor.config.parsers import InvalidValueError, alert_url, is_on_loopback
from supervisor.core.incidents import INCIDENT_LEVELS
from supervisor.errors import ConfigError
from supervisor.incidents.alert_formats import JSON, Alert, format_of, request_of
from supervisor.incidents.run_life import now_s
from supervisor.runtime.loop_latency import short_switch_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.config.settings import AlertSettings
    from supervisor.core.incidents import Incident

LEAST_INTERVAL_S = 60.0
TRIES = 8
RETRY = Backoff(initial_s=1.0, max_s=60.0)
_TIMEOUT_S = 10.0
# Delay before sending, so that the alert includes what is decided right after the incident.
_SETTLE_S = 0.5
# Statuses worth a retry; any other unsuccessful status is permanent.
_PASSING = frozenset({408, 425, 429})
_SERVER_ERROR = 500
# The longest that is waited for one alert because of Retry-After.
_MOST_AFTER_S = 600.0
_GOOD = range(200, 300)


class Refusal(NamedTuple):
    """Why an alert was not accepted, whether a retry may help, and after how many seconds the service asks for it."""

    why: str
    passing: bool
    after_s: float = 0.0


class AlertCounts(NamedTuple):
    """The number of alerts sent, of alerts given up, and of incidents that were only counted in another's alert."""

    sent: int = 0
    failed: int = 0
    left_out: int = 0


class AlertSender:
    """Sends at most one alert a minute, about the worst incident waiting; it includes the number of the others.

    ``name`` is the container's. ``on_trouble`` is called from another thread with the reason why an alert was given up.
    """

    def __init__(self, settings: AlertSettings, name: str, on_trouble: Callable[[str], None]) -> None:
        self.counts = AlertCounts()
        # Time of the last alert, in seconds since the epoch.
        self.sent_s: float | None = None
        self._settings = settings
        self._name = name
        self._on_trouble = on_trouble
        self._lock = threading.Lock()
        self._waiting: list[Incident] = []
        self._left_out = 0
        self._under_way = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def unsent(self) -> int:
        """Return the number of incidents without an alert so far."""
        with self._lock:
            return len(self._waiting) + self._left_out + self._under_way

    def go_on(self, sent_s: float | None, left_out: int) -> None:
        """Continue from the previous run: when it sent its last alert, and how many it could not send."""
        self.sent_s = self.sent_s or sent_s
        with self._lock:
            self._left_out += left_out

    def put(self, incident: Incident) -> None:
        """Queue an alert for an incident; a newer version of a waiting one replaces it."""
        with self._lock:
            self._waiting = [each for each in self._waiting if each.id != incident.id] + [incident]
            if self._thread is not None and self._thread.is_alive():
                return
            thread = threading.Thread(target=self._run, name="alerts", daemon=True)
            # If no thread can be started, it waits for the next incident.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def close(self, limit_s: float) -> None:
        """Send what may be sent now, within the given number of seconds."""
        # As soon as the event is set, the thread may end and clear the attribute.
        thread = self._thread
        self._closing.set()
        if thread is not None:
            thread.join(limit_s)

    def _run(self) -> None:
        self._closing.wait(_SETTLE_S)
        while True:
            # Once only: after the wait it is allowed, wherever the clock was set meanwhile.
            is_early = self._closing.wait(self._wait_s()) and self._wait_s() > 0
            with self._lock:
                if not self._waiting or is_early:
                    # Nothing to send; or the run ends before the next alert is allowed, and the next run sends it.
                    self._thread = None
                    return
                batch, self._waiting = self._waiting, []
                left_out, self._left_out = self._left_out, 0
                self._under_way = len(batch) + left_out
            worst = max(batch, key=lambda each: (INCIDENT_LEVELS.index(each.level), each.at_s))
            left_out += len(batch) - 1
            sent, failed, untold = self.counts
            if self._send(worst, left_out):
                self.counts = AlertCounts(sent + 1, failed, untold + left_out)
            else:
                self.counts = AlertCounts(sent, failed + 1, untold)
                with self._lock:
                    self._left_out += self._under_way
            self._under_way = 0

    def _wait_s(self) -> float:
        if self.sent_s is None:
            return 0.0
        # A clock that was set back must not suppress alerts.
        return min(LEAST_INTERVAL_S, max(0.0, self.sent_s + LEAST_INTERVAL_S - now_s()))

    def _send(self, incident: Incident, left_out: int) -> bool:
        """Send one alert, with retries where they may help; return whether it was accepted."""
        refusal, left_s = Refusal("", passing=True), _MOST_AFTER_S
        for tries in range(1, TRIES + 1):
            try:
                refusal = self._try(incident, left_out)
            except (ConfigError, InvalidValueError) as error:
                # The file may be rewritten at any time.
                refusal = Refusal(str(error), passing=True)
            except Exception as error:  # noqa: BLE001 - the border of a failure domain
                refusal = Refusal(f"{type(error).__name__} while it was sent", passing=True)
            if not refusal.why:
                self.sent_s = now_s()
                return True
            if not refusal.passing or self._closing.is_set() or tries == TRIES:
                break
            # Other alerts wait behind this one.
            after_s = min(refusal.after_s, left_s)
            left_s -= after_s
            self._closing.wait(max(after_s, delay_s(RETRY, tries, 0.5 + random_jitter() / 2)))
        self._on_trouble(refusal.why)
        return False

    def _try(self, incident: Incident, left_out: int) -> Refusal:
        url = alert_url(self._settings.url.read().reveal()) if self._settings.url is not None else ""
        kind = self._settings.format or format_of(url)
        secret = self._settings.secret.read() if self._settings.secret is not None and kind == JSON else None
        alert = Alert(incident, self._name, left_out, self._settings.with_lines)
        body, headers = request_of(kind, alert, secret, now_s())
        return post(url, body, headers)


def post(url: str, body: bytes, headers: dict[str, str]) -> Refusal:
    """Send one request without following redirects; a Refusal without a reason means success."""
    with short_switch_interval():
        # Imported for the first alert.
        import urllib.error
        import urllib.request

        class NoRedirects(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: object) -> None:
                return None

    handlers: list[urllib.request.BaseHandler] = [NoRedirects()]
    if is_on_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    headers = headers | {"User-Agent": f"moltis-supervisor/{__version__}"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked at the start
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S) as answer:
            status, after = answer.status, None
    except urllib.error.HTTPError as error:
        status, after = error.code, error.headers.get("Retry-After")
        error.close()
    except TimeoutError:
        return Refusal(f"no answer within {_TIMEOUT_S:g} s", passing=True)
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Refusal(getattr(reason, "strerror", None) or str(reason), passing=True)
    if status in _GOOD:
        return Refusal("", passing=False)
    is_passing = status in _PASSING or status >= _SERVER_ERROR
    return Refusal(f"it answered {status}", is_passing, _seconds(after) if is_passing else 0.0)


def _seconds(after: str | None) -> float:
    """Return a Retry-After of seconds; 0 for none, and for a date, which takes two clocks that agree (RFC 9110)."""
    try:
        return min(_MOST_AFTER_S, max(0.0, float(after or 0)))
    except ValueError:
        return 0.0
