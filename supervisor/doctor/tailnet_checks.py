"""Checks the tailnet: its state, how the app is published, open ports, keys, tags and identities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.core.credentials import DAY_S, FIRST_WARNING_S, REMEDIES, epoch_of, expiries
from supervisor.doctor.finding import Check, split_remedy
from supervisor.errors import host_port
from supervisor.moltis import CLOSE_PROXY, OPEN_PROXY_PORT
from supervisor.tailnet.oauth_client import TAG_NOT_PERMITTED
from supervisor.tailnet.serve.diff import funnels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.core.snapshot import Snapshot, TailnetView
    from supervisor.doctor.finding import Diagnosis
    from supervisor.doctor.subject import Subject

_PAGE = "reference/tailnet.md"
_SERVE_PAGE = "reference/serve.md"
_KEYS_PAGE = "how-to/rotate-keys.md"
STATE = Check("tailnet", "state", "the tailnet's state", "without it no peer reaches the app", _PAGE)
DEVICE = Check(
    "tailnet",
    "device",
    "the warnings of the supervisor and of tailscaled",
    "a connected device may still have problems",
    _PAGE,
)
SERVE = Check(
    "tailnet", "serve", "how the app is published", "this is the only way for peers to reach the app", _SERVE_PAGE
)
FUNNEL = Check(
    "tailnet",
    "funnel",
    "AllowFunnel in the serve configuration in force",
    "with Funnel the whole internet reaches what is meant for the tailnet",
    "how-to/expose-publicly.md",
)
HTTPS = Check(
    "tailnet",
    "https",
    "whether the tailnet issues certificates",
    "without HTTPS browsers allow no passkeys, and show the app as not secure",
    _SERVE_PAGE,
)
PORTS = Check(
    "tailnet",
    "open-ports",
    "ports that listen where peers are forwarded to",
    "every peer reaches them, bypassing serve, with headers of its choice",
    "reference/exposure.md",
)
UNTAGGED = Check(
    "tailnet",
    "untagged-key",
    "TS_AUTHKEY beside the device's tags",
    "a device without a tag is a person's own: its key expires, and a reusable key adds more such devices",
    _KEYS_PAGE,
)
TAGS = Check(
    "tailnet",
    "tags",
    "TS_TAGS, and who owns these tags in the tailnet's policy (tagOwners)",
    "a tag that nobody owns, or that the key may not give, keeps the device out",
    _PAGE,
)
EXPIRY = Check(
    "tailnet",
    "credentials",
    "when keys, certificates, tokens and sessions expire",
    "a device whose key has expired is out of its tailnet until somebody logs it in",
    _KEYS_PAGE,
)
CHECKS = (STATE, DEVICE, SERVE, HTTPS, FUNNEL, PORTS, UNTAGGED, TAGS, EXPIRY)
_TAGGED_KEY = "use a key that has a tag, one for each device, or an OAuth client (TS_CLIENT_SECRET with TS_TAGS)"
_MOST_PORTS = 20
_HTTPS_MODES = ("auto", "https")


def findings(subject: Subject) -> Iterator[Diagnosis]:
    """Yield the findings about the tailnet."""
    if subject.plan.settings.tailnet.mode == "off":
        yield STATE.ok("off: SUPERVISOR_TAILSCALE says so")
        return
    if subject.snapshot is None:
        told = subject.tailnet.why or "no supervisor is running"
        yield STATE.note(f"not known: {told}", "start the supervisor, and check again")
    else:
        yield from _running(subject, subject.snapshot.tailnet)
    yield from _serve_config(subject)
    yield from _untagged(subject)
    yield from _tags(subject)
    yield from _expiry(subject)


def _running(subject: Subject, view: TailnetView) -> Iterator[Diagnosis]:
    yield _state(view)
    for text in view.warnings:
        yield DEVICE.problem(*split_remedy(text))
    for text in (*view.notes, *(view.health if view.up else ())):
        yield DEVICE.note(*split_remedy(text))
    if view.serve.why:
        yield SERVE.problem(*split_remedy(view.serve.why))
    elif view.serve.urls:
        yield SERVE.ok(", ".join(view.serve.urls))
    elif view.up:
        yield SERVE.note("nothing is published", "set SUPERVISOR_SERVE=auto to publish the app")
    if subject.snapshot is not None:
        yield _ports(subject.snapshot)


def _ports(snapshot: Snapshot) -> Diagnosis:
    exposed = snapshot.exposed
    if not snapshot.exposed_known and not exposed:
        return PORTS.note(
            "not known: not checked since the start yet, or this kernel does not list listening ports (/proc/net/tcp)",
            "check again in a few seconds; if it persists, keep everything off 127.0.0.1 and 0.0.0.0",
        )
    if not exposed:
        return PORTS.ok("none but the supervisor's own")
    # Those that it runs come first: beside them a machine may have dozens.
    managed = {view.name for view in snapshot.processes}
    told = [
        f"{host_port(each.host, each.port)} of {each.process or 'an unknown process'}"
        for each in sorted(exposed, key=lambda each: each.process not in managed)
    ]
    more = f", and {len(told) - _MOST_PORTS} more" if len(told) > _MOST_PORTS else ""
    more += "" if snapshot.exposed_known else "; there may be more, which this kernel does not list"
    proxy = f"; for {OPEN_PROXY_PORT}, {CLOSE_PROXY}" if any(each.port == OPEN_PROXY_PORT for each in exposed) else ""
    return PORTS.problem(
        ", ".join(told[:_MOST_PORTS]) + more,
        f"have them listen on 127.0.0.2 or [::1], or close the ports in the tailnet's policy{proxy}",
    )


def _state(view: TailnetView) -> Diagnosis:
    told = f"{view.state}: {view.why}" if view.why else view.state
    if view.up:
        return STATE.ok(told)
    if view.by_owner:
        return STATE.note(told, view.what_to_do or "connect, if that is no longer wanted")
    return STATE.problem(told, view.what_to_do or "wait, and check again")


def _serve_config(subject: Subject) -> Iterator[Diagnosis]:
    status, serve = subject.tailnet.status, subject.plan.settings.tailnet.serve
    if status is None or subject.tailnet.relays is None:
        return
    open_to_all = funnels(dict(subject.tailnet.serve))
    if open_to_all:
        yield FUNNEL.problem(", ".join(sorted(open_to_all)), "run `tailscale funnel reset` beside tailscaled")
    else:
        yield FUNNEL.ok("off")
    if status.cert_domains:
        yield HTTPS.ok("the tailnet issues certificates")
    elif subject.plan.serve_target is not None and serve in _HTTPS_MODES:
        yield HTTPS.problem("the tailnet issues no certificates", "enable them on the DNS page of the admin console")
    else:
        told = "the tailnet issues no certificates, and SUPERVISOR_SERVE needs none"
        yield HTTPS.note(told, "nothing, unless somebody wants passkeys: they require HTTPS")


def _untagged(subject: Subject) -> Iterator[Diagnosis]:
    tailnet, status = subject.plan.settings.tailnet, subject.tailnet.status
    if tailnet.auth_key is None or subject.is_client_secret:
        return
    node = status.node if status is not None and status.have_node_key else None
    if node is not None and node.tags:
        yield UNTAGGED.ok(f"the device has {', '.join(node.tags)}")
    elif node is not None and node.key_expiry:
        yield UNTAGGED.problem(
            f"the device has no tag, and its key expires at {node.key_expiry}",
            _TAGGED_KEY,
        )
    elif node is None and not tailnet.prefs.advertise_tags:
        yield _untagged_key(subject)


def _untagged_key(subject: Subject) -> Diagnosis:
    """Return what can be said before the first login with a key."""
    key = subject.auth_key.known
    if key is None:
        again = (
            " Each start is a new device here, which requires a reusable key."
            if subject.plan.settings.tailnet.in_memory
            else ""
        )
        told = f"no tag is requested: unless the key has one, the device will belong to a person.{again}"
        told = f"{told} Whether it has one, and is reusable, is unknown: {subject.auth_key.why}"
        return UNTAGGED.note(told, f"nothing, if it has a tag; else {_TAGGED_KEY}")
    if key.tags:
        return UNTAGGED.ok(f"the key has {', '.join(key.tags)}")
    kind = "is reusable and has no tag" if key.reusable else "has no tag"
    return UNTAGGED.problem(f"the key {kind}, and no tag is requested: the device will belong to a person", _TAGGED_KEY)


def _tags(subject: Subject) -> Iterator[Diagnosis]:
    wanted = subject.plan.settings.tailnet.prefs.advertise_tags
    if not wanted:
        return
    view = subject.snapshot.tailnet if subject.snapshot is not None else None
    told, owners = ", ".join(wanted), subject.tag_owners
    lacking = [tag for tag in wanted if owners.tags is not None and tag not in owners.tags]
    advice = "add each to tagOwners in the tailnet's policy, as in deploy/tailnet-policy.hujson"
    if view is not None and view.up and set(wanted) <= set(view.tags):
        yield TAGS.ok(f"the device has {told}")
    elif lacking:
        yield TAGS.problem(f"the policy has no owner for {', '.join(lacking)}", advice)
    elif view is not None and TAG_NOT_PERMITTED in f"{view.why} {view.last_error}":
        yield TAGS.problem(f"{told} was refused: {view.last_error or view.why}", advice)
    elif owners.tags is not None:
        yield TAGS.ok(f"the policy has owners for {told}")
    else:
        yield TAGS.note(f"whether the policy has owners for {told} is unknown before a login: {owners.why}", advice)


def _expiry(subject: Subject) -> Iterator[Diagnosis]:
    settings = subject.plan.settings
    found = list(expiries(subject.snapshot, subject.now_s)) if subject.snapshot is not None else []
    for each in found:
        if each.stage:
            yield EXPIRY.problem(each.words.partition("; ")[0], REMEDIES[each.name])
        else:
            yield EXPIRY.ok(f"the {each.name} expires in {each.left_s / DAY_S:.0f} days")
    if subject.snapshot is not None and subject.snapshot.tailnet.up and not subject.snapshot.tailnet.key_expiry:
        yield EXPIRY.ok("the device's key does not expire")
    if subject.is_client_secret:
        yield EXPIRY.ok("the OAuth client's secret does not expire; it makes a key of one hour for each login")
    elif settings.tailnet.auth_key is not None:
        yield _auth_key_expiry(subject)
    token = "SUPERVISOR_TOKEN does not expire; " if settings.token is not None else "a sign-in code lasts 15 minutes; "
    yield EXPIRY.ok(f"{token}a session of the panel lasts 12 hours")


def _auth_key_expiry(subject: Subject) -> Diagnosis:
    known, status = subject.auth_key.known, subject.tailnet.status
    end_s = epoch_of(known.expires) if known is not None else None
    if end_s is None:
        told = "the auth key does not say when it expires: at the latest 90 days after it was created"
        return EXPIRY.note(told, "note that day, or use an OAuth client (TS_CLIENT_SECRET), which does not expire")
    left_s = end_s - subject.epoch_s
    told = f"the auth key expires in {left_s / DAY_S:.0f} days" if left_s > 0 else "the auth key has expired"
    if left_s > FIRST_WARNING_S:
        return EXPIRY.ok(told)
    if status is not None and status.have_node_key:
        told = f"{told}; this device has logged in, and needs it only to log in as a new device"
        return EXPIRY.note(told, "create a new key in time if the device's identity is not kept")
    return EXPIRY.problem(told, "create a new key, and set TS_AUTHKEY to it")
