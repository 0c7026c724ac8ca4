"""Every deploy file compared with the code's tables: names, values, secrets, the contract's defaults, stop timeouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config.settings import SETTINGS
from supervisor.moltis import DEFAULTS
from tests.deploy.files import Box, alone, in_cluster, planned, supervisors
from tests.support.backups import program

# The app gets at least this much of SUPERVISOR_STOP_TIMEOUT; Moltis may need it.
MOLTIS_S = 25.0
# A platform's grace period exceeds ours by this much, so that the platform never kills first.
MARGIN_S = 5.0
SECRETS = frozenset(row.name for row in SETTINGS if row.parser.form.startswith("the secret itself"))
BOXES = pytest.mark.parametrize("box", supervisors(), ids=lambda box: box.where)


@BOXES
def test_the_settings_are_good(box: Box) -> None:
    """The supervisor would start with them, without warnings."""
    _, report = planned(box)
    assert report.problems == []
    assert report.warnings == []


@BOXES
def test_secrets_are_secrets(box: Box) -> None:
    """None has its value in the file, and the panel's token is asked for."""
    found = {name.removesuffix("_FILE") for name in box.secrets}
    given = {name.removesuffix("_FILE") for name in box.env}
    assert given & SECRETS == found
    assert "SUPERVISOR_TOKEN" in found
    assert all(box.env[name] == "" or name.endswith("_FILE") for name in box.secrets)


@BOXES
def test_who_it_is(box: Box) -> None:
    """It requests the tag of the policy, and has a hostname."""
    plan, _ = planned(box)
    assert plan.settings.tailnet.prefs.advertise_tags == ("tag:moltis",)
    assert plan.settings.tailnet.prefs.hostname == "moltis"


@BOXES
def test_the_time_to_stop(box: Box) -> None:
    """The platform waits longer than the supervisor, and the supervisor long enough for Moltis."""
    plan, _ = planned(box)
    assert plan.settings.stop_timeout_s + MARGIN_S <= box.grace_s
    if plan.app is not None:
        # At most 3 s of it are reserved for the logout and for tailscaled.
        assert plan.settings.stop_timeout_s - 3.0 >= MOLTIS_S


@BOXES
def test_the_app_is_published_and_moltis_has_its_password(box: Box) -> None:
    """It is published through serve; a Moltis started by the supervisor gets the contract's defaults and password."""
    plan, _ = planned(box)
    assert plan.serve_target is not None
    if plan.app is None:
        return
    assert DEFAULTS.items() <= plan.app.env.items()
    assert plan.app.env["MOLTIS_PASSWORD"]
    assert "MOLTIS_PASSWORD" in {name.removesuffix("_FILE") for name in box.secrets}


@pytest.mark.parametrize("box", alone(), ids=lambda box: box.where)
def test_moltis_alone_gets_the_same(box: Box) -> None:
    """Its file has what the supervisor would pass on, and no settings of ours."""
    assert DEFAULTS.items() <= box.env.items()
    assert not [name for name in box.env if name.startswith(("TS_", "SUPERVISOR_"))]
    assert box.grace_s >= MOLTIS_S + MARGIN_S


def test_where_a_sidecar_finds_the_app() -> None:
    """It is at the address that only serve reaches in a pod; with separate networks, at its name, as is the panel."""
    plans = {box.where: planned(box)[0] for box in supervisors()}
    droplet = plans["deploy/droplet/compose.yaml panel"]
    assert droplet.serve_target == "http://moltis:13131"
    assert droplet.settings.tailnet.serve_panel == f"http://panel:{droplet.listen.port}"
    assert plans["kubernetes panel"].serve_target == "http://127.0.0.2:13131"
    assert in_cluster()["panel"].env["TS_SOCKET"] == droplet.settings.tailnet.socket


@pytest.mark.parametrize("box", supervisors()[2:4], ids=lambda box: box.where)
def test_a_bucket_is_an_option_on_app_platform(box: Box) -> None:
    """Without one there are no backups; with one there are, the device is kept, and there are no warnings."""
    assert planned(box)[0].backup is None
    repository = "s3:https://nyc3.digitaloceanspaces.com/bucket/moltis"
    path = f"{Path(program('restic')).parent}:/usr/bin:/bin"
    given = {"PATH": path, "SUPERVISOR_BACKUP_REPOSITORY": repository}
    plan, report = planned(box._replace(env=box.env | given))
    assert (report.problems, report.warnings) == ([], [])
    assert plan.backup is not None
    assert plan.settings.tailnet.serve == "auto"
    assert not plan.settings.tailnet.logs_out_at_stop
