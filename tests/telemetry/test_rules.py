"""The alert rules and the configurations in the how-to are valid, and every alert fires when it should."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supervisor.telemetry.metrics import METRICS, PREFIX
from tests.conventions.tree import read
from tests.telemetry.promtool import HOW_TO, RULES, RULES_FILE, TOKEN_FILE, configurations, promtool

if TYPE_CHECKING:
    from pathlib import Path

# Series minute by minute, and the minute at which the named alert fires.
SERIES = {
    "SupervisorAway": ('up{job="moltis-supervisor",instance="a"}', "1 0x20", 10),
    "HealthFails": ('moltis_supervisor_health_status{instance="a",status="fail"}', "0 1x20", 10),
    "ProcessRestartsOften": (
        'moltis_supervisor_process_restarts_total{instance="a",process="moltis",reason="signal"}',
        "0+1x20",
        10,
    ),
    "ProcessOutOfMemory": (
        'moltis_supervisor_process_restarts_total{instance="a",process="moltis",reason="out_of_memory"}',
        "0 0 1x20",
        10,
    ),
    "ProcessHangs": (
        'moltis_supervisor_process_restarts_total{instance="a",process="moltis",reason="hung"}',
        "0 0 1x20",
        10,
    ),
    "TailnetAway": ('moltis_supervisor_tailnet_up{instance="a"}', "1 0x20", 15),
    "TailnetKeyRefused": ('moltis_supervisor_tailnet_logins_total{instance="a",result="refused"}', "0 0 1x20", 10),
    "TailnetKeyExpiresSoon": ('moltis_supervisor_tailnet_key_expiry_timestamp_seconds{instance="a"}', "86400x20", 10),
    "BackupsFail": (
        'moltis_supervisor_health_component_status{instance="a",component="backup",status="warn"}',
        "0 1x20",
        15,
    ),
    "BackupsHoldTheApp": ('moltis_supervisor_backup_state{instance="a",state="held: choose"}', "0 1x20", 10),
    "BackupsOld": ('moltis_supervisor_backup_last_good_timestamp_seconds{instance="a"}', "-3600x20", 10),
    "RestoreFailed": ('moltis_supervisor_backup_restores_total{instance="a",result="failed"}', "0 0 1x20", 10),
    "StandbyForLong": ('moltis_supervisor_backup_state{instance="a",state="standby"}', "0 1x20", 18),
    "PortsOpenToPeers": ('moltis_supervisor_exposed_ports{instance="a"}', "2x20", 10),
    "LogLinesDropped": ('moltis_supervisor_log_lines_dropped_total{instance="a"}', "0 0 5x20", 10),
    "EventLoopLate": ('moltis_supervisor_loop_lag_seconds_bucket{instance="a",le="+Inf"}', "0+60x40", 30),
}


def test_the_rules_are_well_formed() -> None:
    """Promtool finds no error in the alert rules."""
    assert f"{len(SERIES)} rules found" in promtool("check", "rules", str(RULES))


def test_the_configurations_are_well_formed(tmp_path: Path) -> None:
    """Promtool accepts each configuration, with the files that it names."""
    token = tmp_path / "token"
    token.write_text("x")
    path = tmp_path / "prometheus.yml"
    found = configurations()
    assert len(found) == 2
    for text in found:
        path.write_text(text.replace(TOKEN_FILE, str(token)).replace(RULES_FILE, str(RULES)))
        promtool("check", "config", str(path))


def test_every_alert_fires(tmp_path: Path) -> None:
    """Each alert is silent with normal data and fires with bad data; disconnecting on purpose causes no alert."""
    bad = [_case(name, [(series, values)], name, minute) for name, (series, values, minute) in SERIES.items()]
    bucket = 'moltis_supervisor_loop_lag_seconds_bucket{instance="a",le="%s"}'
    late = [(bucket % "0.5", "0x40"), (bucket % "1.0", "0+60x40"), (bucket % "+Inf", "0+60x40")]
    quick = [(bucket % "0.5", "0+60x40"), (bucket % "1.0", "0+60x40"), (bucket % "+Inf", "0+60x40")]
    bad[-1] = _case("EventLoopLate", late, "EventLoopLate", 30)
    series = {name: series for name, (series, _values, _minute) in SERIES.items() if name != "EventLoopLate"}
    usual = {"SupervisorAway": "1x20", "TailnetAway": "1x20", "TailnetKeyExpiresSoon": "9999999x20"}
    good = [_case(name, [(one, usual.get(name, "0x20"))], "", 15, alert=name) for name, one in series.items()]
    state = 'moltis_supervisor_tailnet_state{instance="a",state="disconnected by you"}'
    good.append(_case("chosen", [(SERIES["TailnetAway"][0], "0x20"), (state, "1x20")], "", 15, alert="TailnetAway"))
    good.append(_case("in time", quick, "", 30, alert="EventLoopLate"))
    path = tmp_path / "tests.yml"
    head = f"rule_files: [{RULES}]\nevaluation_interval: 1m\ntests:\n"
    path.write_text(head + "".join([*bad, *good]))
    promtool("test", "rules", str(path))


def test_the_how_to_lists_every_alert() -> None:
    """The table on the page has the names of the rules, in the same order."""
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    assert re.findall(r"^\| `([A-Z]\w+)` \|", read(HOW_TO), re.MULTILINE) == alerts


def test_the_metrics_exist() -> None:
    """Every metric on the page and in the rules is in the table of metrics."""
    names = set(re.findall(rf"{PREFIX}(\w+)", read(HOW_TO) + RULES.read_text()))
    known = set(METRICS) | {f"{metric.name}_bucket" for metric in METRICS.values()}
    assert names
    assert names <= known


def _case(title: str, series: list[tuple[str, str]], fires: str, minute: int, alert: str = "") -> str:
    """Return a case: with these series, the alert fires at this minute, or stays silent if none is given."""
    inputs = "".join(f"      - series: '{name}'\n        values: '{values}'\n" for name, values in series)
    query = f'count(ALERTS{{alertname="{fires or alert}",alertstate="firing"}})'
    samples = "\n          - value: 1\n            labels: '{}'" if fires else " []"
    return (
        f"  - name: {title} {'fires' if fires else 'is silent'}\n    interval: 1m\n    input_series:\n{inputs}"
        f"    promql_expr_test:\n      - expr: '{query}'\n"
        f"        eval_time: {minute}m\n        exp_samples:{samples}\n"
    )
