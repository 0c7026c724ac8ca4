"""Publishes the app in the tailnet, maintains what it published, and reports conflicts."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from supervisor import moltis
from supervisor.backoff import Backoff, ceiling_s
from supervisor.config.users import Host
from supervisor.core.snapshot import ServeView
from supervisor.json_input import decode_json
from supervisor.logs.received import visible
from supervisor.runtime import loop_latency
from supervisor.tailnet.localapi import (
    ChangedMeanwhileError,
    ForbiddenError,
    LocalApi,
    LocalApiError,
    SilentError,
    UnreachableError,
)
from supervisor.tailnet.serve import desired, diff
from supervisor.tailnet.serve.certificates import Certificates
from supervisor.tailnet.serve.desired import ServeFile
from supervisor.tailnet.serve.diff import Conflict, ConflictKind, Path, endpoint, handling, host_port, is_port, table
from supervisor.tailnet.state_file import StateFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.config.plan import Plan
    from supervisor.logs.pipeline import LogPipeline
    from supervisor.tailnet.serve.desired import Wanted
    from supervisor.tailnet.serve.diff import Entries, Record
    from supervisor.tailnet.wire import Json, Status


def conflict_text(found: Conflict, config: Json) -> str:
    """Return the message about a conflict."""
    where, what, remedy = place(found.path), thing(found.value), f"`{off_command(found, config)}`"
    if found.kind is ConflictKind.BESIDE:
        return f"{where} is not ours and leads to {what}, not to what we publish beside it; remove it with {remedy}"
    if found.kind is ConflictKind.SESSION:
        return f"cannot publish on {where}: a `tailscale serve` that runs in a terminal has that port; end it"
    if found.kind is ConflictKind.OPEN_TO_FUNNEL:
        return f"the whole internet reaches {where}: Funnel was switched on, not by us; switch it off with {remedy}"
    if found.kind is ConflictKind.CLOSED_TO_FUNNEL:
        return (
            f"cannot publish on {where}: Funnel is on there, not by us, and the whole internet would reach it; "
            f"switch it off with {remedy}"
        )
    return f"cannot publish on {where}: something that is not ours is there, {what}; remove it with {remedy}"


def place(path: Path) -> str:
    """Return a description of an entry's location."""
    target, (service, port) = host_port(path), endpoint(path)
    if target:
        return target if path[-1] == "/" else f"{target}{path[-1]}"
    if not port:
        return service
    return f"port {port} of {service}" if service else f"port {port}"


def thing(value: Any) -> str:
    """Return a description of an entry's target."""
    told = value if isinstance(value, dict) else {}
    if told.get("TCPForward"):
        return f"a TCP forward to {told['TCPForward']}"
    for name, kind in (("Proxy", ""), ("Path", "the files in "), ("Redirect", "a redirect to ")):
        if told.get(name):
            return f"{kind}{told[name]}"
    if told.get("HTTP") or told.get("HTTPS"):
        return f"a web server ({handling(told).upper()})"
    return "a text" if told.get("Text") else "something else"


def off_command(found: Conflict, config: Json) -> str:
    """Return the command that removes the conflicting entry."""
    service, port = endpoint(found.path)
    if not port:
        return f"tailscale serve --service={service} --tun off"
    if found.kind is ConflictKind.CLOSED_TO_FUNNEL and host_port(found.path) not in table(config, "Web"):
        # Otherwise it has no effect if nothing is served.
        return "tailscale funnel reset"
    words = [
        "tailscale",
        "funnel" if found.kind in {ConflictKind.OPEN_TO_FUNNEL, ConflictKind.CLOSED_TO_FUNNEL} else "serve",
    ]
    if service:
        words.append(f"--service={service}")
    handler = found.value if is_port(found.path) else _port_handler(config, service, port)
    words.append(f"--{handling(handler or {'HTTPS': True})}={port}")
    if host_port(found.path) and found.path[-1] != "/":
        words.append(f"--set-path={found.path[-1]}")
    return " ".join([*words, "off"])


def takes_root(entries: dict[Path, Any]) -> bool:
    """Return whether any entry leads to files or to a unix socket."""
    targets = [
        (value.get("Path"), value.get("Proxy"), value.get("TCPForward"))
        for value in entries.values()
        if isinstance(value, dict)
    ]
    return any(path or "unix:" in {str(proxy)[:5], str(tcp)[:5]} for path, proxy, tcp in targets)


def _port_handler(config: Json, service: str, port: str) -> Any:
    above = table(config, "Services").get(service) if service else config
    return table(above, "TCP").get(port)


NAME = "serve.json"


class _Entry(msgspec.Struct):
    path: tuple[str, ...]
    value: Any


class _Kept(msgspec.Struct):
    entries: list[_Entry]


class Ownership:
    """The record of what we have written into tailscaled's serve configuration, kept across restarts.

    ``why_unread`` is why it could not be read, else empty.
    """

    def __init__(self, folder: str) -> None:
        self._file = StateFile(folder, NAME)
        self._entries: Record | None = None
        self.why_unread = ""

    @property
    def why_not_kept(self) -> str:
        """Why the record is lost when the supervisor ends; empty if it is not."""
        return self._file.why_not

    def entries(self) -> Record:
        """Return the recorded entries. A file that cannot be read or parsed counts as empty."""
        if self._entries is None:
            data = self._file.read()
            self.why_unread = self._file.why_unread
            try:
                self._entries = {} if data is None else _decoded(data)
            except msgspec.DecodeError as error:
                self._entries, self.why_unread = {}, f"it is damaged: {error}"
        return self._entries

    def put(self, *written: Entries) -> None:
        """Replace the record with these entries."""
        record: Record = {}
        for entries in written:
            for path, value in entries.items():
                if value not in record.get(path, ()):
                    record[path] = (*record.get(path, ()), value)
        if record == self.entries():
            self._file.write_again()
            return
        self._entries = record
        found = [_Entry(path, value) for path, values in record.items() for value in values]
        self._file.write(msgspec.json.encode(_Kept(found)))


def _decoded(data: bytes) -> Record:
    kept = decode_json(data, _Kept)
    record: Record = {}
    for entry in kept.entries:
        record[entry.path] = (*record.get(entry.path, ()), entry.value)
    return record


# The longest time until changes by other programs are noticed.
LOOK_EVERY_S = 30.0
_AFTER_FAILURE = Backoff(2.0, LOOK_EVERY_S)
# How long to wait for the disk to store the record before writing.
_RECORDED_S = 5.0
# Others may write at the same time, and changing the kind of a port takes two steps.
_TRIES = 6
_UNREAD = (
    "nothing is changed in what is published: the disk of the state folder (TS_STATE_DIR) does not answer; check it"
)
_ROOT_ONLY = "files and unix sockets as targets require root: run the supervisor as root, or publish an http:// address"
_READ_ONLY = (
    "run the supervisor as root, or as tailscaled's user, or let root on tailscaled's side run "
    "`tailscale set --operator=USER`"
)


class _Refusal(NamedTuple):
    """A change that tailscaled refused, with the configuration at that time; it is retried only when either changes."""

    wanted: Wanted
    etag: str
    error: ForbiddenError


class Serve:
    """Writes the serve configuration. Only entries that it wrote itself are changed or removed.

    ``notes`` are messages that do not make health warn.
    """

    def __init__(
        self,
        plan: Plan,
        log: LogPipeline,
        *,
        lasting: Callable[[], bool] | None = None,
        certificates: Certificates | None = None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Prepare; nothing is read or requested before the first ``reconcile``.

        ``lasting`` returns whether the state folder outlives the container.
        """
        tailnet = plan.settings.tailnet
        self._log = log
        self._target = plan.serve_target
        self._panel = tailnet.serve_panel
        self._mode = tailnet.serve
        self._file = ServeFile(tailnet.serve_config) if tailnet.serve_config is not None else None
        self._record = Ownership(tailnet.state_dir)
        self._app_port = plan.app_address.port if plan.app_address is not None else 0
        self._url_file = StateFile(tailnet.state_dir, moltis.EXTERNAL_URL_FILE)
        self._recorded_url = ""
        self._is_lasting = lasting or partial(Host().keeps_state, plan.settings)
        self._is_embedded = plan.tailscaled is not None
        self._fetches_certificates = plan.fetches_certificates
        self._lasting = False
        self._reader = loop_latency.TimedReader(self._read)
        self._is_read = False
        self._certificates = certificates or Certificates(LocalApi(tailnet.socket, log.redactor.mask_text))
        self._look_every_s = look_every_s
        self._view = ServeView()
        self.notes: tuple[str, ...] = ()
        self._certificate_expiry = ""
        self.forget()

    async def run(self) -> None:
        """Fetch certificates in the background until cancelled."""
        await self._certificates.run()

    def forget(self) -> None:
        """Start over: tailscaled was restarted, or the device has left its tailnet."""
        self._seen: Wanted | None = None
        self._look_s = 0.0
        self._failures = 0
        self._refusal: _Refusal | None = None
        self._advertised: frozenset[str] | None = None
        self._certificates.forget()

    async def reconcile(self, api: LocalApi, status: Status) -> ServeView:
        """Apply the desired configuration and return its state; call it any time while the device is connected.

        tailscaled is queried only after a change, and periodically for changes by others.
        """
        if not self._is_read:
            try:
                await self._reader.read()
            except TimeoutError:
                self._show(self._view._replace(why=_UNREAD))
                return self._view
            self._is_read = True
            self._show(self._view._replace(why=""))
        wanted = await self._wanted(status)
        now_s = time.monotonic()
        if wanted == self._seen and now_s < self._look_s:
            return self._view
        if wanted != self._seen:
            self._failures = 0
        self._seen = wanted
        try:
            await self._converge(api, wanted)
        except (UnreachableError, SilentError):
            # The service reports this; what is published has not changed.
            self._look_s = time.monotonic() + self._failed()
        except LocalApiError as error:
            self._look_s = time.monotonic() + self._failed()
            self._show(self._view._replace(why="; ".join([f"cannot change what is published: {error}", *wanted.whys])))
        else:
            self._failures = 0
            self._look_s = time.monotonic() + self._look_every_s
        return self._view

    def _read(self) -> None:
        """Read what is known of the state folder, whose disk may hang: call it in a thread."""
        self._lasting = self._is_lasting()
        self._record.entries()
        self._recorded_url = (self._url_file.read() or b"").decode(errors="replace")

    def _failed(self) -> float:
        """Count a failure and return the delay before the next try in seconds."""
        self._failures += 1
        return min(self._look_every_s, ceiling_s(_AFTER_FAILURE, self._failures))

    async def _wanted(self, status: Status) -> Wanted:
        name = status.node.dns_name.removesuffix(".") if status.node is not None else ""
        domains = status.cert_domains or ()
        if self._file is not None:
            domain = domains[0] if domains else name
            if not domain:
                return desired.nameless()
            found = await self._file.look_in_time(domain)
            if found.config is None:
                return desired.unknown(found.whys)
            # A sidecar keeps its own state.
            lasting = self._lasting or not self._is_embedded
            wanted = desired.of_file(found.config, domains, found.whys, lasting=lasting)
            return wanted if self._fetches_certificates else desired.without_fetching(wanted)
        if self._target is None or self._mode == "off":
            return desired.nothing()
        lasting = self._lasting
        secure_name = desired.certificate_name(self._mode, name, domains, lasting=lasting)
        certificate = self._certificates.want(secure_name)
        self._certificate_expiry = certificate.expiry if certificate is not None else ""
        wanted = desired.of_app(self._mode, self._target, name, domains, certificate, lasting=lasting)
        return desired.with_panel(wanted, name, self._panel) if self._panel is not None else wanted

    async def _converge(self, api: LocalApi, wanted: Wanted) -> None:
        """Apply changes step by step until nothing is left, then show what is in force."""
        former = desired.services(self._record.entries())
        for _ in range(_TRIES):
            found = await api.serve_config()
            wish = wanted.wish
            if wish is None:
                self._tell(found.config, diff.Wish({}), wanted, ())
                return
            step = diff.step(found.config, wish, self._record.entries())
            if self._is_refused(wanted, found.etag):
                self._tell(found.config, wish, wanted, step.conflicts, self._refusal)
                return
            try:
                if step.config is None:
                    # Before that: services that are recorded no more would never be taken back.
                    await self._advertise(api, desired.services(wish.entries), former)
                    self._record.put(step.ours)
                    self._tell(found.config, wish, wanted, step.conflicts)
                    return
                # Recorded before writing: entries that are written and not recorded could never be removed.
                self._record.put(step.ours, step.written)
                await loop_latency.background_done(_RECORDED_S)
                await api.put_serve_config(step.config, found.etag)
            except ChangedMeanwhileError:
                continue
            except ForbiddenError as error:
                self._refusal = _Refusal(wanted, found.etag, error)
                if step.config is not None:
                    # Otherwise it was the advertising: services that are recorded no more would never be taken back.
                    self._record.put(step.ours)
                self._tell(found.config, wish, wanted, step.conflicts, self._refusal)
                return
        raise LocalApiError("something else changes it again and again; see in tailscaled's log what asks for it")

    async def _advertise(self, api: LocalApi, names: frozenset[str], former: frozenset[str]) -> None:
        """Update the advertised services: add those that are published, remove those that no longer are."""
        if self._advertised == names or not (names or former):
            return
        prefs = await api.prefs()
        told = frozenset[str](prefs.get("AdvertiseServices") or ())
        after = (told - former) | names
        if after != told:
            await api.change_prefs({"AdvertiseServices": sorted(after)})
        self._advertised = names

    def _is_refused(self, wanted: Wanted, etag: str) -> bool:
        return self._refusal is not None and (self._refusal.wanted, self._refusal.etag) == (wanted, etag)

    def _tell(
        self,
        config: Json,
        wish: diff.Wish,
        wanted: Wanted,
        conflicts: tuple[diff.Conflict, ...],
        refusal: _Refusal | None = None,
    ) -> None:
        """Show the meaning of a configuration."""
        found = diff.in_force(config, wish, self._record.entries())
        whys = [*wanted.whys, *(conflict_text(each, config) for each in conflicts)]
        if refusal is not None:
            targets = diff.entries(config) | wish.entries
            remedy = _ROOT_ONLY if takes_root(targets) else _READ_ONLY
            whys.append(f"cannot change what is published: {refusal.error}; {remedy}")
        self.notes = wanted.notes
        if self._record.why_unread:
            why = self._record.why_unread
            self.notes += (f"what was published before cannot be read ({why}): what is there is left alone",)
        if self._record.why_not_kept:
            self.notes += (f"what is published is not remembered beyond this run: {self._record.why_not_kept}",)
        self._show(
            ServeView(
                mode="serve" if found else "off",
                urls=visible(diff.urls(config, found)),
                why=visible("; ".join(whys)),
                config=msgspec.json.encode(visible(config)).decode() if config else "",
                external_url=self._external_url(diff.https_url(config, found, self._app_port), wanted),
                certificate_expiry=self._certificate_expiry if found else "",
            )
        )

    def _external_url(self, url: str, wanted: Wanted) -> str:
        """Record the app's URL for its next start, and return the recorded one.

        It stays while HTTPS is wanted and not in force: a certificate may be under way.
        """
        if url != self._recorded_url and (url or not desired.has_https(wanted)):
            self._url_file.write(url.encode())
            self._log.record("info", "serve: external URL", url=url or "none", before=self._recorded_url or None)
            self._recorded_url = url
        return self._recorded_url

    def _show(self, view: ServeView) -> None:
        before, self._view = self._view, view
        if (view.mode, view.urls) != (before.mode, before.urls):
            event = "serve: published" if view.mode == "serve" else "serve: no longer published"
            self._log.record("info", event, urls=" ".join(view.urls) or None)
