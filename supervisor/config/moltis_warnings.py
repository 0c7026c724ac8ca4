"""Warnings about what the environment tells Moltis, and about ports on which it listens itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor import moltis
from supervisor.config.plan import EVERYWHERE, Address, port_settings, proxies_of
from supervisor.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.config.plan import Plan

# What Rust reads as a number.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def find(plan: Plan, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the warnings about an app that may be Moltis."""
    for name, guard in moltis.GUARDS.items():
        text = environ.get(name)
        if text and (text.lower() if guard.ignores_case else text) not in guard.safe:
            yield f"{name} is {quoted(text)} and not {moltis.DEFAULTS[name]}: {guard.danger}"
    yield from _overrides(environ)
    if environ.get(moltis.FIXED_SETUP_CODE):
        yield (
            f"{moltis.FIXED_SETUP_CODE} is for Moltis' own tests: whoever knows that code can take over a Moltis that "
            "is not set up yet; remove it, and use the code in the log"
        )
    if plan.runs_moltis:
        yield from _ports(plan)


def _overrides(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield warnings about variables by which Moltis may lose the guard that is one of them."""
    replacing = sorted(name for name in environ if _replaces_network(name))
    for name in replacing:
        yield f"{name} may replace {moltis.NETWORK}: without `bypass` there, Moltis {moltis.OPENS_PROXY}; remove it"
    voiding = sorted(name for name, text in environ.items() if name not in replacing and _may_void(name, text))
    if not voiding:
        return
    names, go = " and ".join(filter(None, [", ".join(voiding[:-1]), voiding[-1]])), "go" if voiding[1:] else "goes"
    yield (
        f"{names} {go} into Moltis' configuration; if one value is of another type than it expects there, Moltis "
        f"ignores every such variable, {moltis.NETWORK} too, and {moltis.OPENS_PROXY}; use moltis.toml instead, or "
        'write network = "bypass" under [tools.exec.sandbox] there'
    )


def _replaces_network(name: str) -> bool:
    """Tell whether a variable is another spelling of the sandbox's network, or of a section that it is in."""
    path = name.upper()
    is_prefix = path.startswith(moltis.PREFIX) and f"{moltis.NETWORK}{moltis.STEP}".startswith(path + moltis.STEP)
    return name.startswith(moltis.PREFIX) and is_prefix and name != moltis.NETWORK


def _may_void(name: str, text: str) -> bool:
    """Tell whether an override of Moltis' configuration may have the wrong type there."""
    if name in moltis.TEXT_OVERRIDES or name.upper().startswith(moltis.TEXT_SECTION):
        return not _is_text(text)
    if not name.startswith(moltis.PREFIX) or name in moltis.NO_OVERRIDES or name == moltis.NETWORK:
        return False
    path = name.removeprefix(moltis.PREFIX)
    return moltis.STEP in path or path.lower() in moltis.SECTIONS


def _is_text(text: str) -> bool:
    """Tell whether Moltis reads a value as a text: it tries JSON, booleans and numbers first."""
    if text.strip()[:1] + text.strip()[-1:] in {"[]", "{}"}:
        from json import loads

        try:
            loads(text)
        except ValueError:
            return True
        return False
    is_number = _NUMBER.fullmatch(text) is not None and float(text) not in {float("inf"), float("-inf")}
    return text.lower() not in {"true", "false"} and not is_number


def _ports(plan: Plan) -> Iterator[str]:
    app = plan.app_address
    if app is None:
        return
    own, theirs = port_settings(plan.settings)
    ours = {own: plan.listen, theirs: app, **proxies_of(plan.settings.tailnet)}
    for name, address in ours.items():
        if address.meets(Address(EVERYWHERE, moltis.OPEN_PROXY_PORT)):
            yield (
                f"{name} is {_shown(name, address)}, where Moltis has its forward proxy unless {moltis.NETWORK} is "
                "bypass: one of the two could not listen; use another port"
            )
        if address.meets(app._replace(port=moltis.SIGN_IN_PORT)):
            yield (
                f"{name} is {_shown(name, address)}, where Moltis waits for your browser when you sign in to a model "
                "provider: that would fail; use another port"
            )


def _shown(name: str, address: Address) -> str:
    return str(address) if name.startswith("TS_") else str(address.port)
