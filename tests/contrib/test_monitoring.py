"""What ships for Prometheus and Grafana, and the page that describes it, against the table of metrics."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from binlogd.web.metrics import METRICS
from tests.contrib.support import DASHBOARD, ROOT, RULE_TESTS, RULES, named, promtool

DOCS = (ROOT / "docs" / "monitoring.md").read_text()
KNOWN = {metric.name for metric in METRICS}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def test_promtool_takes_the_rules() -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_when_it_must_and_not_otherwise() -> None:
    tested = promtool("test", "rules", str(RULE_TESTS))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tested_both_ways() -> None:
    titles = {test["name"] for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]}
    assert titles == {f"{rule['alert']} {what}" for rule in rules() for what in ("fires", "is quiet")}


def test_each_alert_says_what_to_do() -> None:
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_the_rules_name_metrics_that_are_there() -> None:
    for rule in rules():
        assert named(rule["expr"]) <= KNOWN, rule["alert"]
    assert any(named(rule["expr"]) for rule in rules())


def targets() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    assert set().union(*map(named, targets())) == KNOWN


def test_the_dashboard_takes_any_data_source() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["schemaVersion"] >= 39
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "job", "instance"]
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = {
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in board["panels"]
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    }
    assert len(taken) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in board["panels"]), "overlap"
    assert max(column for column, _ in taken) < 24


def test_the_dashboards_expressions_are_promql(tmp_path: Any) -> None:
    """As rules, for that is what promtool takes; Grafana puts a duration in the place of its variable."""
    records = [
        {"record": f"r{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(targets())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_each_metric_is_documented(metric: Any) -> None:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |" in DOCS


def test_nothing_else_is_documented() -> None:
    assert set(re.findall(r"^\| `(binlogd_\w+)`", DOCS, re.MULTILINE)) == KNOWN
    alerts = {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    assert dict(re.findall(r"^\| `(Binlogd\w+)` \| (\w+) \|", DOCS, re.MULTILINE)) == alerts
