"""Arguments nobody would type: one line and exit code 2, never a traceback, never a long silence."""

from __future__ import annotations

import argparse
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpm_repro import cli

JUNK = st.sampled_from(
    ["", " ", "-1", "0", "nan", "inf", "-inf", "1e999", "99999999999999999999", "no/such/file", "..", ".",
     "a\nb", "x" * 3000, "--", "-", "%s%n", "résumé", "*", "[", "{}", "null", "a=b=c", "seed=x"]
)  # fmt: skip
EXAMPLES = int(os.environ.get("CPM_FUZZ_EXAMPLES", "150"))
LONGEST = 2.0
"""Seconds after which a refusal counts as a hang."""

NEEDED = {"train": ["--data", "no/such/data"], "demo": ["--minutes", "0"], "checklist": ["--only", "none"],
          "bench": ["no such benchmark"], "proto": ["no such net", "--out", "x"]}  # fmt: skip
"""What makes each verb that could otherwise begin to work refuse."""


def options_of(verb: str) -> list[argparse.Action]:
    _, verbs = cli._parser()
    return [action for action in verbs[verb]._actions if action.dest != "help"]


@st.composite
def commands(draw) -> list[str]:
    verb = draw(st.sampled_from([name for name in cli._parser()[1] if name != "doctor"]))
    arguments = [verb]
    for action in draw(st.lists(st.sampled_from(options_of(verb)), max_size=4)):
        if action.option_strings:
            arguments.append(draw(st.sampled_from(action.option_strings)))
        if action.nargs != 0:
            count = action.nargs if isinstance(action.nargs, int) else 1
            arguments += [draw(JUNK) for _ in range(count)]
    return [*arguments, *NEEDED.get(verb, [])]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Every verb has been called once: what is imported where it is used is there, and costs no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        for verb, arguments in CALLS.items():
            assert cli.main([verb, *arguments]) == 2


CALLS = {
    **NEEDED,
    "eval": ["--weights", "no such file"],
    "predict": ["--weights", "no such file", "no.png"],
    "viz": ["no such file"],
    "data": ["check", "no such file"],
    "convert": ["no.pt", "no.caffemodel"],
    "export": ["no.pt", "no.onnx"],
}


@pytest.mark.usefixtures("imported")
@given(arguments=commands())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_arguments(arguments, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    begin = time.monotonic()
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    took = time.monotonic() - begin
    said = capsys.readouterr()
    assert code == 2 or (code == 0 and not said.err), (arguments, code, said)
    assert "Traceback" not in said.err
    assert took < LONGEST, (arguments, took)


@pytest.mark.parametrize("verb", sorted(cli._parser()[1]))
def test_every_verb_helps_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"cpm {verb}" in capsys.readouterr().out.split("example:")[1]


@pytest.mark.parametrize("words", [["eval", "--weights"], ["predict"], ["data", "check"], ["viz"]])
def test_a_name_longer_than_any_file_system_allows(words, capsys):
    assert cli.main([*words, "x" * 3000]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "xxx" in said


def test_a_prediction_of_nothing_is_refused_before_a_network_is_built(monkeypatch, capsys):
    """It took seconds on a busy machine, and the network was never used."""
    from cpm_repro.inference import predict

    monkeypatch.setattr(predict, "PoseEstimator", lambda *_, **__: pytest.fail("a network was built"))
    assert cli.main(["predict", "no.png", "none.jpg"]) == 2
    assert "2 could not be used" in capsys.readouterr().err
