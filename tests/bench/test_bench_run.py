"""The benchmark system: nothing wrong is timed, no failure is hidden, numbers come back as written."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpm_repro.bench.case import BenchmarkWrong, Case, Goal, Question
from cpm_repro.bench.clock import sizes_in_turn, time_in_turn
from cpm_repro.bench.limits import Limits, measure_limits
from cpm_repro.bench.record import Answer, BenchReport, Measured, Spread, load_report, save_report
from cpm_repro.bench.run import find_scripts, run_benchmarks
from cpm_repro.bench.script import answer_question
from cpm_repro.bench.text import answer_markdown, report_markdown
from cpm_repro.cli import main
from cpm_repro.errors import EnvironmentFailure, UserError

TOYS = Path(__file__).parent


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[BenchReport, Path]:
    out = tmp_path_factory.mktemp("bench")
    return run_benchmarks(out, ["toy"], quick=True, folder=TOYS), out


def test_a_report_has_every_form_and_comes_back(report):
    made, out = report
    assert load_report(out / "report.json") == made
    assert not (out / "report.part.json").exists()
    text = (out / "report.md").read_text()
    assert "| n=1000 | sum |" in text
    assert "A quick run" in text
    assert "toy-n.png" in text
    assert "was ended" not in text
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2  # scaling and roofline
    assert "<td>n=10000</td>" in page


def test_goals_are_held_against_what_was_measured(report):
    (answer,) = report[0].answers
    rows = {
        (case.name, against): reached for case in answer.cases for against, _, _, reached in case.verdicts()
    }
    assert not rows["n=1000", "limit"]  # a thousand million times faster than memory
    assert rows["n=10000", "loop"]
    for case in answer.cases:
        assert len(case.samples["sum"]) == len(case.samples["loop"]) == 3
        assert case.ratio("sum").median == 1
        assert case.seconds("sum").low <= case.seconds("sum").median <= case.seconds("sum").high


def test_a_wrong_result_has_no_time(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY", "wrong")
    done = subprocess.run(
        [sys.executable, str(TOYS / "toy.py"), "--quick", "--json", str(tmp_path / "x.json")]
        + ["--out", str(tmp_path / "x.md")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "n=10000: the result differs from the reference by 1, allowed 0.001" in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_script_that_is_ended_leaves_the_cases_that_it_had(tmp_path, monkeypatch, how):
    monkeypatch.setenv("TOY", "hang")
    # A process that was started in the background has Ctrl-C switched off, and so have its children.
    code = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    options = ["--quick", "--out", str(tmp_path / "x.md")]
    command = [sys.executable, "-c", code, str(TOYS / "toy.py"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as script:
        part = tmp_path / "x.part.md"
        end = time.monotonic() + 120
        while not part.exists() and script.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        script.send_signal(how)
        assert part.exists(), script.communicate()[0]
    text = part.read_text()
    assert "| n=1000 | sum |" in text
    assert "ended before its other cases were measured" in text
    assert list(tmp_path.iterdir()) == [part]


@pytest.mark.parametrize(
    ("how", "said"),
    [("wrong", "differs from the reference"), ("crash", "the toy broke"), ("late", "broke at its end")],
)
def test_what_fails_is_reported(tmp_path, monkeypatch, how, said):
    monkeypatch.setenv("TOY", how)
    made = run_benchmarks(tmp_path, ["toy"], quick=True, folder=TOYS)
    assert said in made.answers[0].failure
    text = report_markdown(made)
    assert "FAILED, no time is reported" in text
    assert "| n=1000 |" not in text


def test_who_ends_a_run_keeps_the_benchmarks_that_are_done(tmp_path, monkeypatch, capsys):
    """Half an hour of measurements was gone with the last minute of it."""
    done = Answer("toy", "Sums", "?", [])
    answers = iter([done])

    def run_script(*_):
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("cpm_repro.bench.run._run_script", run_script)
    (tmp_path / "report.json").write_text("of the run before")
    with pytest.raises(KeyboardInterrupt):
        run_benchmarks(tmp_path, ["toy", "toy", "toy"], folder=TOYS)
    assert "1 of 3 benchmarks are kept in" in capsys.readouterr().err
    assert load_report(tmp_path / "report.part.json").answers == [done]
    assert (tmp_path / "report.json").read_text() == "of the run before"


def test_a_folder_that_cannot_be_written_is_found_out_first(tmp_path, monkeypatch):
    monkeypatch.setattr("cpm_repro.bench.run._run_script", lambda *_: pytest.fail("measured for nothing"))
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="file is no folder"):
        run_benchmarks(tmp_path / "file" / "bench", ["toy"], folder=TOYS)


def test_not_a_number_is_no_result():
    with pytest.raises(BenchmarkWrong):
        Case("x", {}, check=lambda: float("nan"), tolerance=1.0).checked()


def test_every_round_times_every_way_with_its_number():
    seen = {"a": [], "b": []}
    samples = time_in_turn({name: seen[name].append for name in seen}, rounds=4, budget=60)
    assert [len(values) for values in samples.values()] == [4, 4]
    assert all(value > 0 for values in samples.values() for value in values)
    assert seen["a"][2:] == sorted(seen["a"][2:])
    assert len(set(seen["a"][2:])) == len(seen["a"][2:])  # no two calls get the same number


def test_short_work_is_measured_for_a_while_and_long_work_not_for_ever():
    begin = time.perf_counter()
    samples = time_in_turn({"a": lambda _: None}, rounds=2, budget=60, least=0.3)
    assert 0.3 <= time.perf_counter() - begin < 3
    assert len(samples["a"]) > 2
    slow = time_in_turn({"a": lambda _: time.sleep(0.02)}, rounds=1000, budget=0.01, least=60)
    assert len(slow["a"]) == 3


def test_limits_are_rates():
    limits = measure_limits(quick=True)
    assert limits.seconds(limits.copy, 0, "float32") == pytest.approx(1)
    assert limits.seconds(0, 3 * limits.float32, "float32") == pytest.approx(3)
    assert limits.seconds(limits.copy, 3 * limits.float32, "float32") == pytest.approx(3)


def test_limits_count_what_is_written_read_and_multiplied(monkeypatch):
    """Were each done in a second: 4 bytes a number filled, 8 copied, a multiply and an add per product."""
    monkeypatch.setattr(
        "cpm_repro.bench.clock.time_in_turn", lambda works, **_: {way: [1.0, 1.0, 5.0] for way in works}
    )
    limits = measure_limits(quick=True, bfloat16=True)
    assert (limits.fill, limits.copy) == (4 << 22, 8 << 22)
    assert limits.float32 == limits.bfloat16 == 2 * 256**3


def test_a_question_is_held_against_one_set_of_limits(monkeypatch):
    """bfloat16's rate is measured once it is wanted; the other rates must stay those of earlier cases."""
    rates = iter([1e9, 2e9])

    def measured(*_, bfloat16, **__):
        return Limits(*[next(rates)] * 3, 5e9 if bfloat16 else None)

    monkeypatch.setattr("cpm_repro.bench.script.measure_limits", measured)
    cases = (
        Case(p, {"a": lambda _: None}, lambda: 0.0, 0.0, operations=1e9, precision=p)
        for p in ("float32", "bfloat16")
    )
    answer = answer_question(Question("q", "?", cases), "toy", "cpu", quick=True)
    assert answer.limits == Limits(1e9, 1e9, 1e9, 5e9)
    assert [case.limit_seconds for case in answer.cases] == [1.0, 0.2]


def test_unknown_names_are_told(tmp_path):
    with pytest.raises(UserError, match=r"unknown benchmark 'toi'; did you mean toy\?"):
        run_benchmarks(tmp_path, ["toi"], folder=TOYS)
    with pytest.raises(UserError, match="not installed with the package"):
        find_scripts(tmp_path)


def test_files_that_are_no_report(tmp_path, capsys):
    (tmp_path / "text.json").write_text("no")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    for name, said in (
        ("text", "expected JSON"), ("deep", "expected JSON"), ("other", "got something else"),
        ("none", "cannot be read"),
    ):  # fmt: skip
        path = str(tmp_path / f"{name}.json")
        assert main(["bench", "compare", path, path]) == 2
        assert said in capsys.readouterr().err
    assert main(["bench", "compare", "one.json"]) == 2
    (tmp_path / "cut.json").write_text(json.dumps({"format": "cpm bench 1", "answers": [{}]}))
    with pytest.raises(UserError, match="not a whole benchmark report"):
        load_report(tmp_path / "cut.json")


def test_saved_numbers_are_the_ones_measured(report, tmp_path):
    save_report(report[0], tmp_path / "again.json")
    assert load_report(tmp_path / "again.json") == report[0]


def test_memory_is_reported_as_such():
    """Works that return bytes are not timed."""

    def cases():
        works = {"small": lambda _: 2e6, "large": lambda _: 6e6}
        yield Case("x", works, check=lambda: 0.0, tolerance=0.0, goals=(Goal("large", 2.0),), unit="bytes")

    answer = answer_question(Question("Memory", "How much?", cases()), "toy", "cpu", quick=True)
    assert answer.cases[0].samples == {"small": [2e6] * 3, "large": [6e6] * 3}
    text = answer_markdown(answer)
    assert "| x | large | 6 MB | 6 MB to 6 MB | 3.00x |" in text
    assert "large takes at least 2 times as much" in text
    with pytest.raises(TypeError, match="wanted a number of bytes"):
        sizes_in_turn({"none": lambda _: None}, 1)


def test_a_time_that_is_asked_for_is_the_limit():
    def cases():
        for name, allowed in (("easy", 10.0), ("impossible", 1e-9)):
            goals = (Goal("limit", 1.0),)
            works = {"sum": lambda _: sum(range(100))}
            yield Case(name, works, lambda: 0.0, 0.0, bytes=800.0, allowed=allowed, goals=goals)

    answer = answer_question(Question("Times", "How long?", cases()), "toy", "cpu", quick=True)
    assert [reached for case in answer.cases for *_, reached in case.verdicts()] == [True, False]
    assert "| easy | *asked for* | 10 s |" in answer_markdown(answer)


def test_the_median_decides_and_not_the_middle_half():
    """3 to 5 of five rounds: a goal of 4 is reached, one of 4.1 is missed."""
    samples = {"ours": [1.0] * 5, "peer": [1.0, 3.0, 4.0, 5.0, 9.0]}
    case = Measured("x", 0.0, 0.0, samples, goals=[("peer", 4.0), ("peer", 4.1)])
    assert [(got, reached) for *_, got, reached in case.verdicts()] == [
        (Spread(4.0, 3.0, 5.0), True),
        (Spread(4.0, 3.0, 5.0), False),
    ]
