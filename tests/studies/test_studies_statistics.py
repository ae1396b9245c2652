"""The rule that decides: against scipy's own interval, and where it must not decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cpm_repro.studies.statistics import LEAST_SEEDS, MOST_SEEDS, both, decide, spread


def test_the_interval_is_students():
    values = [1.2, 3.4, 2.0, 2.9]
    wanted = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = decide(values)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.value == "holds"
    assert decide([-value for value in values]).value == "does not hold"
    assert decide(values, margin=2.0).value == "undecided"
    assert decide(values, margin=5.0).value == "does not hold"


@pytest.mark.parametrize("values", [[9.0], [9.0, 9.1]])
def test_few_seeds_decide_nothing_however_clear(values):
    found = decide(values)
    assert found.value == "undecided"
    assert f"at least {LEAST_SEEDS} seeds" in found.budget
    assert found.to_dict()["low"] is None


def test_the_budget_named_would_decide_if_mean_and_spread_stayed():
    values = [1.0, -0.5, 2.0]
    found = decide(values)
    assert found.value == "undecided"
    mean, deviation = spread(values)

    def decides(count):
        return stats.t.ppf(0.975, count - 1) * deviation / np.sqrt(count) < mean

    assert decides(found.needed)
    assert not decides(found.needed - 1)
    assert f"about {found.needed} seeds" in found.budget
    assert f"more than {MOST_SEEDS} seeds" in decide([10.0, -10.0, 0.01]).budget


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=8), st.floats(-50, 50))
def test_the_value_is_where_the_interval_lies(values, margin):
    found = decide(values, margin)
    wanted = "holds" if found.low > margin else "does not hold" if found.high < margin else "undecided"
    assert found.value == wanted
    assert bool(found.budget) == (wanted == "undecided")
    assert decide([-value for value in values], -margin).value == {
        "holds": "does not hold", "does not hold": "holds", "undecided": "undecided"
    }[wanted]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "value", "budget"),
    [
        ([5.0, 5.1, 5.2], [1.0, 1.1, 1.2], "holds", ""),
        ([5.0, 5.1, 5.2], [-1.0, -1.1, -1.2], "does not hold", ""),
        ([1.0, -0.5, 2.0], [-1.0, -1.1, -1.2], "does not hold", ""),
        ([5.0, 5.1, 5.2], [1.0, -0.5, 2.0], "undecided", "about 12 seeds"),
        ([1.0, -0.5, 2.0], [10.0, -10.0, 0.01], "undecided", "more than 100 seeds"),
        ([10.0, -10.0, 0.01], [1.0, -0.5, 2.0], "undecided", "more than 100 seeds"),
    ],
)
def test_what_wants_both_takes_the_larger_budget(first, second, value, budget):
    found = both(decide(first), decide(second))
    assert found[0] == value
    assert found[1].startswith(budget)
    assert bool(found[1]) == bool(budget)


def test_values_that_are_no_numbers_are_refused():
    for values in ([], [1.0, float("nan"), 2.0]):
        with pytest.raises(ValueError, match="finite numbers"):
            decide(values)
