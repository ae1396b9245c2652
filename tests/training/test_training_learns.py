"""The two promises about accuracy, kept by running them: minutes each, so `make test-slow` runs them."""

from dataclasses import replace

import pytest
from support import data_root

from cpm_repro.config import preset
from cpm_repro.demo import demo_config
from cpm_repro.training import train


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_learns_and_later_stages_are_ahead(tmp_path):
    result = train(demo_config(None, seed=0), tmp_path / "run")
    totals = [table.total for table in result.tables]
    assert totals[-1] >= 65
    assert totals[-1] - totals[0] >= 5


@pytest.mark.data
@pytest.mark.timeout(1800)
def test_photographs_in_fifteen_minutes(tmp_path):
    config = replace(preset("tiny"), data=str(data_root("lspet")), minutes=15.0)
    result = train(config, tmp_path / "run")
    totals = [table.total for table in result.tables]
    assert totals[-1] >= 35
    assert totals[-1] - totals[0] >= 4
