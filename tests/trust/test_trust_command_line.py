"""Arguments nobody would type: one line and exit code 2, never a traceback, never a long silence."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpm_repro import cli
from cpm_repro.config import preset, to_dict

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
    _, verbs = cli.command_parser()
    return [action for action in verbs[verb]._actions if action.dest != "help"]


@st.composite
def commands(draw) -> list[str]:
    verb = draw(st.sampled_from([name for name in cli.command_parser()[1] if name != "doctor"]))
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


@pytest.mark.parametrize("verb", sorted(cli.command_parser()[1]))
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
    from cpm_repro.inference import estimator

    monkeypatch.setattr(estimator, "PoseEstimator", lambda *_, **__: pytest.fail("a network was built"))
    assert cli.main(["predict", "no.png", "none.jpg"]) == 2
    assert "2 could not be used" in capsys.readouterr().err


EARLY = {
    "predict no.png none.jpg": "no such file, folder or camera",
    "predict --weights no/run .": "no/run: wanted a run folder or weight file",
    "predict --detector no.caffemodel .": "no.caffemodel: wanted weights of a person network",
    "train --preset tinny": "did you mean tiny?",
    "train --explain tinny": "did you mean tiny?",
    "train --data no/data": "no/data: wanted a data set",
    "train --solver no.prototxt": "no.prototxt: wanted a solver prototxt",
    "train --weights no.pt": "no.pt: wanted a run folder or weight file",
    "train --arch tinny": "did you mean tiny?",
    "train --set solver.lrr=1": "unknown setting solver.lrr; did you mean lr?",
    "train --set solver.lr": "--set wants NAME=VALUE",
    "train --scheme stagewise": "did you mean stage-wise?",
    "train --iterations 0": "iterations must be positive",
    "train --snapshot no.solverstate": "--snapshot goes with --solver",
    "train --resume --set solver.lrr=1": "unknown setting solver.lrr; did you mean lr?",
    "train --solver . --lr 1": "--lr does not go with --solver",
    "train --solver . --set solver.lr=1": "--set solver.lr does not go with --solver",
    "train --solver . --workers -1": "workers must lie in 0 to 256, got -1",
    "study stagse": "did you mean stages?",
    "study stages --preset tinny": "did you mean tiny?",
    "study stages --data no/data": "no/data: wanted a data set",
    "eval --weights no/run": "no/run: wanted a run folder or weight file",
    "eval --weights . --data no/data": "no/data: wanted a data set",
    "eval --predictions no.npz": "no.npz: wanted a file of predictions",
    "eval --weights . --arch tinny": "did you mean tiny?",
    "predict --arch tinny .": "did you mean tiny?",
    "predict --precision half .": "unknown precision 'half'",
    "predict . --scales 1 20": "scales: wanted one or more numbers, each from 0.1 to 10, got 1, 20",
    "predict --batch 0 .": "batch: wanted a whole number of at least 1",
    "predict --box 0.1 0.1 0.9 0.9 .": "box: wanted pixels, 8 or more along its longer side",
    "predict --box 9 0 0 9 .": "box: wanted x0 < x1",
    "predict --center 9 nan .": "center: wanted two finite numbers",
    "predict --center 9 9 --height 1.5 .": "MPII's scale is a height / 200",
    "predict --weights . .": "wanted a run folder with checkpoints/best.pt",
    "predict --weights file .": "file: wanted a file called *.caffemodel",
    "predict --detector file .": "file: wanted a file called *.caffemodel",
    "predict --out file .": "file: wanted a folder for the results, got a file",
    "demo --minutes 0": "minutes must be positive",
    "demo --seed -1": "seed must lie in",
    "study stages --seeds 0": "--seeds: wanted at least 1",
    "study stages --jobs 0": "--jobs: wanted at least 1",
    "study stages --minutes nan": "minutes must be finite",
    "study stages --quick --preset tiny": "leave --preset out",
    "checklist --data no/data": "no/data: wanted a folder",
    "checklist --only study.stagse": "did you mean study.stages",
    "bench belief_map": "did you mean belief_maps?",
    "bench compare no-a no-b": "no-a: cannot be read",
    "data check no/data": "no/data: wanted a folder or an annotation file",
    "data show no/data": "no/data: wanted a data set",
    "data show synthetic --preset tinny": "did you mean tiny?",
    "data show synthetic --set augment.crp=64": "unknown setting augment.crp; did you mean crop?",
    "data show synthetic --set augment.crop=20": "crop must be at least 32 px, got 20",
    "data json no/data --out out": "no/data: wanted a folder of a data set",
    "data lmdb no.json --out out": "no.json: wanted a record file",
    "convert no.pt x.caffemodel": "no.pt: wanted a run folder or weight file",
    "convert . x.caffemodel --arch tinny": "did you mean tiny?",
    "proto tinny --out x": "did you mean tiny?",
    "export . x.onnx --arch tinny": "did you mean tiny?",
    "export no/run x.onnx": "no/run: wanted a run folder or weight file",
    "export w.pt x.bin": "x.bin: wanted a file called *.onnx or *.pt2",
    "convert file x.pt": "file: wanted a file called *.caffemodel",
    "convert w.pt x.bin": "x.bin: wanted a file called *.caffemodel, *.safetensors, *.pt, *.pth or *.ckpt",
    "eval --predictions file": "file: wanted a file called *.npz, *.mat, *.h5 or *.hdf5",
    "eval --weights w.pt --protocol lsp-pck": "--protocol goes with --predictions",
    "eval --weights w.pt --keep-sides": "--keep-sides goes with --predictions",
    "eval --predictions w.pt --data .": "--data goes with --weights",
    "eval --predictions w.pt --procedure release": "--procedure goes with --weights",
    "eval --predictions w.pt --images .": "--images goes with --out",
    "eval --weights file": "file: wanted a file called *.caffemodel",
    "viz no/run": "no/run: wanted a run folder",
}
"""Refusals that need nothing but the names."""


def without_torch(commands: list[str], folder: Path) -> list[str]:
    """What each of the commands, which are refused, says where torch cannot be imported."""
    code = (
        "import sys; sys.modules['torch'] = None\n"  # importing it raises
        "from cpm_repro.cli import main\n"
        f"for words in {commands!r}:\n"
        "    print(main(words.split()), end=' ')\n"
        "    print(file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == ["2"] * len(commands), done.stderr
    return done.stderr.strip().split("\n\n")


def test_what_is_not_there_is_refused_before_torch_is_imported(tmp_path):
    """The import takes seconds on a busy machine, and a refusal of nothing looked like a hang."""
    for name in ("file", "w.pt"):
        (tmp_path / name).touch()
    for (words, wanted), said in zip(EARLY.items(), without_torch(list(EARLY), tmp_path), strict=True):
        assert wanted in said, words
        assert {path.name for path in tmp_path.iterdir()} == {"file", "w.pt"}, words


def test_wrong_settings_of_a_run_that_is_gone_on_with_are_refused_before_torch_is_imported(tmp_path):
    (tmp_path / "run").mkdir()
    started = json.dumps(to_dict(preset("tiny")))
    (tmp_path / "run" / "config.json").write_text(started)
    wrong = {
        "--set solver.lrr=1": "unknown setting solver.lrr; did you mean lr?",
        "--workers 300": "workers must lie in 0 to 256, got 300",
        "--preset lsp_6stage": "run holds a run of tiny, not of the preset lsp_6stage",
    }
    words = [f"train --resume --out run {given}" for given in wrong]
    for wanted, said in zip(wrong.values(), without_torch(words, tmp_path), strict=True):
        assert wanted in said
    assert (tmp_path / "run" / "config.json").read_text() == started


def test_data_sets_that_are_mixed_are_not_taken_for_one_path(capsys):
    for words in (["train", "--data", "no/a+no/b"], ["data", "show", "no/a@2+no/b@1"]):
        assert cli.main(words) == 2
        assert "no/a: " in capsys.readouterr().err
