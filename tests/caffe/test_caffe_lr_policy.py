"""Learning-rate policies against formulas worked out by hand, golden rates and a golden solverstate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import golden

from cpm_repro.caffe.lr_policy import LrPolicy, policy_of
from cpm_repro.caffe.prototxt import parse_prototxt, read_solver
from cpm_repro.caffe.schema import new
from cpm_repro.caffe.solverstate import read_solverstate
from cpm_repro.errors import UserError

BY_HAND = [
    (LrPolicy("fixed", 0.1), {0: 0.1, 10**6: 0.1}),
    (LrPolicy("step", 8.0, gamma=0.5, stepsize=10), {0: 8, 9: 8, 10: 4, 19: 4, 20: 2}),
    (LrPolicy("exp", 8.0, gamma=0.5), {0: 8, 1: 4, 3: 1}),
    (LrPolicy("inv", 6.0, gamma=0.5, power=2), {0: 6, 2: 1.5, 4: 6 / 9}),
    (LrPolicy("poly", 8.0, power=2, max_iter=100), {0: 8, 50: 2, 75: 0.5, 100: 0, 101: 0}),
    (LrPolicy("sigmoid", 4.0, gamma=-2, stepsize=3), {3: 2, 4: 4 / (1 + math.exp(2)), 10**6: 0}),
    (LrPolicy("multistep", 8.0, gamma=0.5, stepvalues=(3, 7)), {2: 8, 3: 4, 6: 4, 7: 2, 99: 2}),
    # one step per iteration at most: three values at 5 take effect at 5, 6, 7
    (LrPolicy("multistep", 8.0, gamma=0.5, stepvalues=(5, 5, 5)), {4: 8, 5: 4, 6: 2, 7: 1, 8: 1}),
]


@pytest.mark.parametrize(("policy", "rates"), BY_HAND, ids=lambda value: getattr(value, "policy", ""))
def test_rates_by_hand(policy, rates):
    for iteration, rate in rates.items():
        assert policy(iteration) == pytest.approx(rate, rel=1e-12, abs=1e-300)


def test_multistep_equals_caffes_loop():
    """An independent derivation: ask every iteration in turn, advance once at most."""
    values = (0, 0, 4, 5, 5, 9)
    policy = LrPolicy("multistep", 1.0, gamma=0.5, stepvalues=values)
    step = 0
    for iteration in range(20):
        if step < len(values) and iteration >= values[step]:
            step += 1
        assert policy(iteration) == 0.5**step


@pytest.mark.parametrize("run", ["recipe", "larger", "itersize2", "decay"])
def test_golden_rates(run):
    stored = np.load(golden("solver.npz"))
    solver = new(
        "SolverParameter",
        lr_policy="step",
        base_lr=float(stored[f"{run}_base_lr"]),
        gamma=0.333,
        stepsize=int(stored[f"{run}_stepsize"]),
    )
    policy, rates = policy_of(solver), stored[f"{run}_lr"]
    np.testing.assert_allclose([policy(i) for i in range(len(rates))], rates, rtol=1e-12)


def test_current_step_of_the_golden_solverstate():
    solver = read_solver(golden("caffemodel_sample") / "solver.prototxt")
    state = read_solverstate(golden("caffemodel_sample") / "small_iter_3.solverstate")
    assert policy_of(solver).current_step(state.iter) == state.current_step == 1


def test_the_smallest_numbers_that_make_sense_are_allowed():
    assert LrPolicy("step", 8.0, gamma=0.5, stepsize=1)(2) == 2
    assert [LrPolicy("poly", 8.0, power=1, max_iter=1)(i) for i in (0, 1)] == [8, 0]
    # with no step size or length to speak of, another policy does not mind
    assert LrPolicy("fixed", 8.0)(5) == 8


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        # the rate of update i is asked for at iteration i - 1
        (LrPolicy("step", 8.0, gamma=0.5, stepsize=4), {0: 0, 4: 0, 5: 1, 6: 1, 8: 1, 9: 2}),
        (LrPolicy("step", 8.0, gamma=0.5, stepsize=1), {0: 0, 1: 0, 2: 1}),
        (LrPolicy("multistep", 8.0, gamma=0.5, stepvalues=(0, 3)), {0: 1, 1: 1, 3: 1, 4: 2}),
        (LrPolicy("inv", 8.0, gamma=0.5, power=2, stepvalues=(1, 2)), {9: 0}),
    ],
    ids=lambda value: getattr(value, "policy", ""),
)
def test_steps_taken_after_so_many_updates(policy, steps):
    assert {updates: policy.current_step(updates) for updates in steps} == steps


def test_bad_policies_are_named():
    with pytest.raises(UserError, match=r"unknown lr_policy 'cosine': wanted one of fixed, step"):
        policy_of(new("SolverParameter", lr_policy="cosine"))
    with pytest.raises(UserError, match="stepsize of at least 1, got 0"):
        policy_of(new("SolverParameter", lr_policy="step"))
    with pytest.raises(UserError, match="max_iter of at least 1"):
        policy_of(new("SolverParameter", lr_policy="poly"))


@pytest.mark.parametrize(
    ("text", "iteration"),
    [
        ('lr_policy: "exp" gamma: 1.5', 100_000), ('lr_policy: "step" gamma: 10 stepsize: 1', 100_000),
        ('lr_policy: "inv" gamma: -1 power: 0.75', 1), ('lr_policy: "inv" gamma: -2 power: 0.75', 1),
        ('lr_policy: "poly" power: -1 max_iter: 5', 5),
    ],
)  # fmt: skip
def test_a_formula_without_a_real_value_is_one_line(text, iteration):
    policy = policy_of(parse_prototxt(f"base_lr: 1 {text}", "SolverParameter"))
    with pytest.raises(UserError, match=f"give no rate at iteration {iteration}"):
        policy(iteration)
