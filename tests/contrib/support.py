"""promtool, from Debian's package, and what names in an expression mean."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from prometheus_client import Metric as Family
from prometheus_client.openmetrics import parser

from testbed.packages import PROMETHEUS, fetch

ROOT = Path(__file__).parents[2]
RULES = ROOT / "contrib" / "prometheus" / "binlogd.rules.yml"
RULE_TESTS = ROOT / "contrib" / "prometheus" / "binlogd.rules.test.yml"
DASHBOARD = ROOT / "contrib" / "grafana" / "binlogd.json"
TIMEOUT = 120.0  # seconds for one run of promtool, which takes less than one


def promtool(*arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it; the caller looks at the exit code."""
    command = [*fetch(PROMETHEUS).command("promtool"), *arguments]
    return subprocess.run(command, input=text, capture_output=True, timeout=TIMEOUT, check=False)


def named(expression: str) -> set[str]:
    """The metrics of binlogd that an expression names, a histogram's parts as the histogram."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bbinlogd_\w+", expression)}


def parse_openmetrics(text: str) -> list[Family]:
    """The families of a text, which must keep to the format."""
    return list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
