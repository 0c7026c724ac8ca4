"""Has tailscaled fetch the certificate for HTTPS, in the background and with long delays after failures."""

from __future__ import annotations

import binascii
import re
import time
from typing import NamedTuple

import anyio

from supervisor.backoff import Backoff, ceiling_s
from supervisor.tailnet.localapi import ForbiddenError, LocalApi, LocalApiError, SilentError, UnreachableError

FETCH_S = 60.0
# Let's Encrypt limits a name to five certificates a week and five failed attempts an hour; tailscaled uses some of them
# itself, as soon as anything is served.
WAITS = Backoff(600.0, 3600.0)
# tailscaled renews the certificate itself; this detects failures.
LOOK_AGAIN_S = 12 * 3600.0
# Not requested for this long: the device is not connected, and tailscaled would only report that.
UNWANTED_S = 30.0
_TRIED_AGAIN = "it is tried again, at most once an hour in the end"


class Certificate(NamedTuple):
    """The state of a certificate; ``why`` it is missing is empty before the first response.

    ``expiry`` is in RFC 3339, empty if unknown.
    """

    there: bool = False
    why: str = ""
    what_to_do: str = ""
    expiry: str = ""


class _Known:
    """What is known of the certificate of one name."""

    def __init__(self) -> None:
        self.certificate = Certificate()
        self.failures = 0
        self.due_s = 0.0


class Certificates:
    """The certificates of the names that this device has had; one at a time is maintained.

    Failures are remembered when tailscaled is restarted or the name changes back and forth.
    """

    def __init__(self, api: LocalApi, *, fetch_s: float = FETCH_S, waits: Backoff = WAITS) -> None:
        self._api = api
        self._fetch_s = fetch_s
        self._waits = waits
        self._known: dict[str, _Known] = {}
        self._name = ""
        self._wanted_s = 0.0
        self._changed = anyio.Event()

    def want(self, name: str) -> Certificate | None:
        """Maintain the certificate of this name from now on (empty: none), and return its state."""
        self._wanted_s = time.monotonic()
        if name != self._name:
            self._name = name
            self._changed.set()
        return self._known.setdefault(name, _Known()).certificate if name else None

    def forget(self) -> None:
        """Check existing and refused certificates again, since tailscaled may have been replaced."""
        for known in self._known.values():
            if known.certificate.there or known.due_s == float("inf"):
                known.due_s = 0.0
        self._name = ""

    async def run(self) -> None:
        """Fetch requested certificates until cancelled."""
        while True:
            self._changed = anyio.Event()
            known = self._known.get(self._name)
            wait_s = float("inf") if known is None else known.due_s - time.monotonic()
            if known is not None and wait_s <= 0:
                if time.monotonic() - self._wanted_s < UNWANTED_S:
                    await self._fetch(self._name, known)
                else:
                    self._name = ""
                continue
            with anyio.move_on_after(wait_s):
                await self._changed.wait()

    async def _fetch(self, name: str, known: _Known) -> None:
        try:
            pem = await self._api.fetch_certificate(name, self._fetch_s)
        except UnreachableError:
            # tailscaled stopped, which says nothing about the certificate; it will be requested again.
            self._name = "" if self._name == name else self._name
        except ForbiddenError as error:
            known.due_s = float("inf")
            known.certificate = Certificate(why=str(error), what_to_do="run the supervisor as root, or mode http")
        except LocalApiError as error:
            known.failures += 1
            known.due_s = time.monotonic() + ceiling_s(self._waits, known.failures)
            if not (known.certificate.there and isinstance(error, SilentError)):
                known.certificate = Certificate(why=str(error), what_to_do=_TRIED_AGAIN)
        else:
            known.failures = 0
            known.due_s = time.monotonic() + LOOK_AGAIN_S
            known.certificate = Certificate(there=True, expiry=expiry_of(pem))


_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
# The century is absent in a UTCTime, whose years begin with 1950 (RFC 5280, 4.1.2.5.1).
_TIME = re.compile(rb"(\d\d)??" + rb"(\d\d)" * 6 + rb"Z")
_FIRST_OF_LAST_CENTURY = "50"
# X.690: the optional version of a certificate.
_VERSION = 0xA0
_LONG_FORM = 0x80


def expiry_of(pem: bytes) -> str:
    """Return the expiry of the first certificate in RFC 3339 (RFC 5280, 4.1.2.5); empty if it cannot be parsed.

    The standard library parses only the certificates of connections.
    """
    found = _CERTIFICATE.search(pem)
    try:
        signed = _parts(_parts(binascii.a2b_base64(found[1]))[0][1]) if found is not None else []
        fields = _parts(signed[0][1])
        # It follows serial number, algorithm and issuer.
        validity = _parts(fields[4 if fields[0][0] == _VERSION else 3][1])
        time = _TIME.fullmatch(validity[1][1])
    except (IndexError, ValueError):
        return ""
    if time is None:
        return ""
    century, year, *rest = (digits.decode() for digits in time.groups(b""))
    century = century or ("19" if year >= _FIRST_OF_LAST_CENTURY else "20")
    return "{}{}-{}-{}T{}:{}:{}Z".format(century, year, *rest)


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    """Return the tags and contents of consecutive DER elements. Raises IndexError if they are truncated."""
    found = []
    while data:
        length, at = data[1], 2
        if length & _LONG_FORM:
            at += length & ~_LONG_FORM
            length = int.from_bytes(data[2:at], "big")
        found.append((data[0], data[at : at + length]))
        data = data[at + length :]
    return found
