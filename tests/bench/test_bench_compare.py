"""Two reports compared: real changes are seen, noise and busy machines are not."""

import dataclasses
import math

import numpy as np
import pytest

from cpm_repro.bench.compare import changes_between, compare_reports
from cpm_repro.bench.record import Answer, BenchReport, Measured, save_report
from cpm_repro.errors import UserError


def made(
    ours: float, peer: float, *, seed: int, noise: float = 0.1, busy: float = 1.0, device: str = "A"
) -> BenchReport:
    """21 rounds of two ways; ``busy`` slows both, ``noise`` shakes each round as a whole."""
    rng = np.random.default_rng(seed)
    shake = busy * np.exp(noise * rng.standard_normal(21))
    own = np.exp(0.02 * rng.standard_normal((2, 21)))
    samples = {"ours": (ours * shake * own[0]).tolist(), "peer": (peer * shake * own[1]).tolist()}
    case = Measured("N=1", 0.0, 1.0, samples)
    return BenchReport("2026-01-01", "abc", device, 2, {}, False, [Answer("toy", "Toy", "", [case])])


@pytest.mark.parametrize("seed", range(8))
def test_a_busy_machine_is_no_change(seed):
    (change,) = changes_between(made(1, 5, seed=seed), made(1, 5, seed=100 + seed, busy=3.0))
    assert change.verdict == "same"
    assert change.ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("factor", "verdict"), [(1.2, "slower"), (0.8, "faster"), (1.02, "same")])
def test_a_change_is_seen_on_a_busy_machine(seed, factor, verdict):
    (change,) = changes_between(made(1, 5, seed=seed), made(factor, 5, seed=50 + seed, busy=2.0))
    assert change.verdict == verdict
    assert change.beside == "peer"


def test_too_few_rounds_are_not_called_the_same():
    """No test tells three rounds from three: a long case must not look as if it had not changed."""
    old, new = made(1, 5, seed=0), made(3, 5, seed=1)
    for report in (old, new):
        samples = report.answers[0].cases[0].samples
        samples |= {way: values[:3] for way, values in samples.items()}
    (change,) = changes_between(old, new)
    assert (change.verdict, change.ratio) == ("too few rounds", pytest.approx(3, rel=0.2))


def test_ten_rounds_suffice_among_a_hundred_cases():
    """A tripled time is found by the exact test; the approximation's least p for ten rounds is 1.8e-4."""
    old, new = made(1, 5, seed=0), made(3, 5, seed=1)
    for report in (old, new):
        cases = report.answers[0].cases
        samples = cases[0].samples
        samples |= {way: values[:10] for way, values in samples.items()}
        cases += [dataclasses.replace(cases[0], name=f"N={n}") for n in range(2, 101)]
    changes = changes_between(old, new)
    assert [change.verdict for change in changes] == ["slower"] * 100
    assert changes[0].p_value == pytest.approx(2 / math.comb(20, 10))


@pytest.mark.parametrize(("cases", "verdict"), [(1, "slower"), (20, "same")])
def test_what_one_of_many_cases_shows_by_chance_is_no_change(cases, verdict):
    """p = 0.0015 of one case is a change; of the twenty that were compared it is to be expected of chance."""
    old, new = made(1, 5, seed=0), made(1, 5, seed=0)
    for report, later in ((old, 0.0), (new, 0.111)):
        own = report.answers[0].cases
        samples = {"ours": (1 + later + 0.02 * np.arange(10)).tolist(), "peer": [1.0] * 10}
        own[:] = [dataclasses.replace(own[0], name=f"N={n}", samples=samples) for n in range(cases)]
    changes = changes_between(old, new)
    assert {change.verdict for change in changes} == {verdict}
    assert 5e-4 < changes[0].p_value < 1e-2


def test_the_limit_is_what_times_are_held_against():
    """Filling memory, say, rather than the first way that both timed."""
    old, new = made(1, 5, seed=0), made(1, 5, seed=1)
    for report in (old, new):
        case = report.answers[0].cases[0]
        samples = {**case.samples, "fill": [2 * value for value in case.samples["ours"]]}
        report.answers[0].cases[:] = [dataclasses.replace(case, samples=samples, limit="fill")]
    (change,) = changes_between(old, new)
    assert (change.beside, change.ratio) == ("fill", 1.0)


def memory(*megabytes: float, device: str = "A") -> BenchReport:
    samples = {"ours": [1e6 * size for size in megabytes], "peer": [5e6, 5e6, 5e6]}
    case = Measured("N=1", 0.0, 1.0, samples, unit="bytes")
    return BenchReport("2026-01-01", "abc", device, 2, {}, False, [Answer("toy", "Toy", "", [case])])


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ((2, 2, 2), "more memory"), ((0.5, 0.6, 0.5), "less memory"), ((1.03, 1.03, 1.03), "same"),
        ((1.0, 1.2, 1.2), "same"),
    ],
)  # fmt: skip
def test_memory_is_compared_without_a_clock(tmp_path, now, verdict):
    """Three measurements that lie wholly beyond three others, by more than five percent."""
    old, new = memory(1, 1, 1.01), memory(*now, device="B")
    (change,) = changes_between(old, new)
    assert change.verdict == verdict
    save_report(old, tmp_path / "a.json")
    save_report(new, tmp_path / "b.json")
    text = compare_reports(tmp_path / "a.json", tmp_path / "b.json")
    assert f"| toy | N=1 |  | {change.ratio:.2f} |  | {verdict} |" in text
    assert text.endswith("0 faster." if verdict == "same" else f"0 faster, 1 {verdict}.")


def test_the_table_names_what_only_one_report_has(tmp_path):
    old, new = made(1, 5, seed=0), made(1.5, 5, seed=1)
    other = dataclasses.replace(new.answers[0].cases[0], name="N=2")
    new.answers[0].cases.append(other)
    save_report(old, tmp_path / "a.json")
    save_report(new, tmp_path / "b.json")
    text = compare_reports(tmp_path / "a.json", tmp_path / "b.json")
    assert "| toy | N=1 | peer | 1.5" in text
    assert "Only in the second report: toy, N=2." in text
    assert text.endswith("1 cases: 1 slower, 0 faster.")  # neither has goals


def test_what_cannot_be_compared(tmp_path):
    quick = dataclasses.replace(made(1, 5, seed=0), quick=True)
    save_report(quick, tmp_path / "quick.json")
    with pytest.raises(UserError, match="a quick run says nothing"):
        compare_reports(tmp_path / "quick.json", tmp_path / "quick.json")
    here, there = made(1, 5, seed=0), made(1, 5, seed=0, device="B")
    for report in (here, there):
        del report.answers[0].cases[0].samples["peer"]
    with pytest.raises(UserError, match="of different machines"):
        changes_between(here, there)
    assert changes_between(here, here)[0].verdict == "same"


@pytest.mark.parametrize(
    ("second", "agreed"), [(5.1, True), (5.8, False), (1.9, False)], ids=["same", "moved", "other verdict"]
)
def test_two_runs_agree_on_goals_or_not(tmp_path, second, agreed):
    for name, peer, seed in (("a", 5, 0), ("b", second, 1)):
        report = made(1, peer, seed=seed)
        report.answers[0].cases[0].goals.append(("peer", 2.0))
        save_report(report, tmp_path / f"{name}.json")
    text = compare_reports(tmp_path / "a.json", tmp_path / "b.json")
    assert f"{int(agreed)} of 1 goals: the same verdict, ratios within 10%." in text
    assert ("toy, N=1, peer 2: 5.0" in text) is not agreed
    assert ("reached and missed" in text) is (second == 1.9)
