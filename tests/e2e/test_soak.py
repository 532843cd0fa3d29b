"""Ten rounds of ``make soak``, one of each kind: whatever is killed under load, nothing acknowledged is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from testbed.distributions import Distribution
from testbed.soak.plan import DECK, Victim, plan_round
from testbed.soak.report import Tally
from testbed.soak.rounds import History, play
from testbed.soak.site import Site

SEED = 4

pytestmark = pytest.mark.servers


def test_ten_rounds(tmp_path: Path, mysql: Distribution) -> None:
    tally, history = Tally(), History()
    with Site(tmp_path, mysql, keep_data=False) as site:
        for number in range(1, DECK + 1):
            played = play(site, plan_round(SEED, number), history)
            assert played.findings == [], f"round {number} of seed {SEED}: {played.plan}"
            tally.add(played)
        assert site.binlogd.stop() == 0
    assert tally.all_findings() == []
    assert set(tally.kills) == set(Victim)
    assert tally.commits > tally.dark > 0
    assert site.left_behind == {}
    shutil.rmtree(site.binlogd.data)
