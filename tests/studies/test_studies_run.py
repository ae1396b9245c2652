"""``cpm study`` as a user meets it: folders, resuming, sharing, the checklist, and mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from studies_support import material, small_base

from cpm_repro.checklist import run_checklist
from cpm_repro.checklist.verdicts import StudyVerdict, Verdict, read_verdict, take_verdicts, write_verdict
from cpm_repro.cli import main
from cpm_repro.config import AugmentConfig
from cpm_repro.data import open_dataset
from cpm_repro.data.loader import crop_of
from cpm_repro.errors import UserError
from cpm_repro.studies import command, request, runs
from cpm_repro.studies.command import STUDIES, run_studies
from cpm_repro.studies.plan import Finding, Run
from cpm_repro.studies.progress import share_done
from cpm_repro.studies.report import setting_of, write_index, write_study
from cpm_repro.studies.request import Request
from cpm_repro.studies.sensitivity import Misplaced, turned


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(request, "quick_base", small_base)


@pytest.mark.usefixtures("small", "drawn")
def test_a_study_leaves_its_folder_and_the_checklist_takes_it(tmp_path, capsys):
    request = Request(["precision", "sensitivity"], tmp_path / "out", quick=True, seeds=1, jobs=1)
    (found, other) = run_studies(request)
    assert found.verdicts[0].value == "undecided"  # four updates say nothing
    assert other.verdicts == ()
    said = capsys.readouterr().out
    assert said.startswith("1 runs for precision, sensitivity: synthetic data")  # one run serves both
    assert "100%  1 of 1 runs" in said
    assert "| precision | study.precision | undecided | the reference reached" in said
    assert "[sensitivity](sensitivity/study.md)" in (tmp_path / "out" / "studies.md").read_text()
    folder = tmp_path / "out" / "precision"
    for name in ("study.md", "runs.json", "verdict.json", "precision.png", "precision.svg"):
        assert (folder / name).stat().st_size > 100
    page = (folder / "study.md").read_text()
    assert "Rule, stated before the runs" in page
    assert str(tmp_path) not in page
    assert read_verdict(folder / "verdict.json") == found
    content = json.loads((folder / "runs.json").read_text())
    run = tmp_path / "out" / "precision" / content["runs"][0]["folder"]
    result = (run / "result.json").stat().st_mtime_ns
    run_studies(request)  # again: nothing is trained
    assert (run / "result.json").stat().st_mtime_ns == result
    results = run_checklist(
        tmp_path / "list", only=["train.base_lr"], studies=tmp_path / "out", say=lambda _: None
    )
    proof = next(result for result in results if result.claim.id == "study.precision")
    assert (proof.status, proof.value, proof.stale) == ("not run", "undecided", False)
    assert "below the 15 %" in proof.missing[0]
    assert take_verdicts(tmp_path / "list", tmp_path / "out") == []  # none is newer


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(tmp_path):
    argv = [sys.executable, "-m", "cpm_repro", "study", "schemes", "--quick", "--iterations", "12",
            "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]  # fmt: skip
    first = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/result.json")):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/result.json")}
    assert 1 <= len(done) < 4
    assert not (tmp_path / "schemes" / "verdict.json").exists()
    subprocess.run(argv, check=True, timeout=250)
    assert (tmp_path / "schemes" / "verdict.json").exists()
    for path, before in done.items():
        assert path.stat().st_mtime_ns == before


def test_studies_share_what_is_the_same_run():
    base = command.base_config(Request(["all"], None, quick=True))
    runs = {
        name: {Run(replace(v.config, seed=s)).name for v in study.variants(base) for s in range(3)}
        for name, study in STUDIES.items()
    }
    assert runs["precision"] == runs["sensitivity"]
    assert runs["precision"] <= runs["stages"] & runs["schemes"]
    assert len(runs["supervision"] & runs["stages"]) == 3
    assert len(set().union(*runs.values())) == 18 + 3 + 18 + 9


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["stagse"], "unknown study 'stagse'; did you mean stages? (known: stages, supervision, receptive-"),
        (["stages", "--seeds", "0"], "--seeds: wanted at least 1"),
        (["stages", "--jobs", "0"], "--jobs: wanted at least 1"),
        (["stages", "--quick", "--preset", "tiny"], "leave --preset out"),
        (["stages", "--preset", "tyny"], "did you mean tiny?"),
        (["stages", "--preset", "person_4stage"], "person_4stage finds people, not parts"),
        (["stages", "--data", "nowhere"], "there is no such file or folder"),
        (["stages", "--parts", "9"], "synthetic labels 14 parts, the network tiny has 9"),
        (["schemes", "--quick", "--iterations", "2"], "too few for"),
        (["all", "--iterations", "0"], "iterations must be positive"),
        (["all", "--minutes", "nan"], "minutes must be"),
    ],
)
def test_mistakes_are_one_line_before_any_training(argv, words, tmp_path, capsys):
    assert main(["study", *argv, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_verdict_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"found no verdict.json"):
        take_verdicts(tmp_path / "list", tmp_path)
    for text in ("", "[]", "{}", '{"format": "cpm_repro verdict 1"}'):
        (tmp_path / "verdict.json").write_text(text)
        with pytest.raises(UserError, match="verdict"):
            take_verdicts(tmp_path / "list", tmp_path)
    with pytest.raises(ValueError, match="wanted one of holds"):
        Verdict("study.stages", "true", "", "")


def test_a_verdict_whose_proofs_say_something_else_is_refused(tmp_path):
    verdict = Verdict("study.stages", "undecided", "rule", "reason")
    write_verdict(tmp_path / "verdict.json", StudyVerdict("stages", "p", "s", "c", (verdict,)))
    content = json.loads((tmp_path / "verdict.json").read_text())
    content["proofs"]["study.stages"]["value"] = "holds"
    (tmp_path / "verdict.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="not of its verdicts"):
        take_verdicts(tmp_path / "list", tmp_path)


def test_people_believed_elsewhere_are_where_they_were():
    dataset = open_dataset("synthetic", "val", size=1)
    there, believed = dataset[0], Misplaced(dataset, shift=(0.1, -0.2), scale=1.5)[0]
    assert np.array_equal(there.joints, believed.joints)
    assert believed.extent == pytest.approx(1.5 * there.extent)
    assert (believed.center - there.center) / there.extent == pytest.approx([0.1, -0.2], abs=1e-6)


@pytest.mark.parametrize("method", ["box", "fast"])
def test_a_size_that_is_believed_changes_every_method_s_crop(method):
    dataset = open_dataset("synthetic", "val", size=1)
    cutter = crop_of(AugmentConfig(method=method))
    there, believed = (
        cutter.place(each[0], dataset.skeleton).inverse for each in (dataset, Misplaced(dataset, scale=1.5))
    )
    assert believed[:, :2] == pytest.approx(1.5 * there[:, :2])


def test_a_turned_photograph_shows_the_same_under_every_joint():
    sample = open_dataset("synthetic", "val", size=1)[0]
    quarter = turned(sample, 90.0)  # counter-clockwise: what was right of the centre is now above it
    away, then = sample.joints[0] - sample.center, quarter.joints[0] - quarter.center
    assert np.stack([then[:, 0], then[:, 1]]) == pytest.approx(np.stack([away[:, 1], -away[:, 0]]), abs=1e-3)
    skew = turned(sample, 30.0)
    smooth = [cv2.GaussianBlur(one.image, (0, 0), 3).astype(float) for one in (sample, skew)]
    seen = [
        np.array([image[round(float(y)), round(float(x))] for x, y in one.joints[0]])
        for image, one in zip(smooth, (sample, skew), strict=True)
    ]
    assert np.abs(seen[0] - seen[1]).mean() < 8
    assert len(np.unique(seen[0], axis=0)) > 5


def test_progress_is_read_from_the_run_itself(tmp_path):
    config = small_base()
    assert share_done(tmp_path, config) == 0
    (tmp_path / "metrics.jsonl").write_text(
        '{"iteration": 1, "seconds": 3}\n{"iteration": 2, "seconds": 6}\n'
    )
    assert share_done(tmp_path, config) == 0.5
    assert share_done(tmp_path, replace(config, iterations=None, minutes=1.0)) == 0.1
    assert share_done(tmp_path, replace(config, minutes=0.125)) == 0.8  # whichever ends first
    (tmp_path / "result.json").write_text("{}")
    assert share_done(tmp_path, config) == 1


def test_runs_that_older_code_trained_are_not_passed_off_as_todays(tmp_path, monkeypatch):
    monkeypatch.setattr("cpm_repro.studies.report.commit", lambda: "today")
    study = STUDIES["precision"]
    made = material(study, {"end-to-end": [[40, 50, 60]] * 2}, tmp_path)
    finding = Finding((), {}, {})
    for commits, said in ((("today", "today"), False), (("older", "today"), True), ((None, None), False)):
        runs = [replace(run, commit=name) for run, name in zip(made.runs["end-to-end"], commits, strict=True)]
        found = write_study(study, replace(made, runs={"end-to-end": runs}), finding, "cpm study")
        assert found.setting.endswith(", trained by commit older") == said
        assert ("commit older" in (tmp_path / "study.md").read_text()) == said


def test_the_setting_names_every_limit_of_a_run():
    config = small_base()
    mixed = replace(config, data="/home/me/one@2+/home/you/two@1")
    assert setting_of(mixed, 3).startswith("one@2+two@1 data, ")
    assert ", 4 updates of batch 2 per run" in setting_of(config, 3)
    assert ", 4 updates or 5 minutes of batch 2 per run" in setting_of(replace(config, minutes=5.0), 3)


@pytest.mark.parametrize(("images", "words"), [(40, "1 seed, 3 held-out people"), (8, "16 people, got 7")])
def test_small_data_of_ones_own(tmp_path, capsys, monkeypatch, images, words):
    """The setting said how many people are scored at most; too few for a batch were found out by the runs."""
    rows = [f"{n}.png,10,10,50,50" for n in range(images)]
    (tmp_path / "x.csv").write_text("\n".join(["image,a_x,a_y,b_x,b_y", *rows]) + "\n")
    (tmp_path / "skeleton.toml").write_text('parts = ["a", "b"]\ntorso = ["a", "b"]\n')
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((64, 64, 3), np.uint8))

    def stop(*_):
        raise UserError("far enough")

    monkeypatch.setattr(command, "train_all", stop)
    argv = ["study", "stages", "--data", str(tmp_path), "--parts", "2", "--quick", "--seeds", "1"]
    assert main([*argv, "--out", str(tmp_path / "out")]) == 2
    assert words in "".join(capsys.readouterr())


def test_runs_go_to_the_gpus_that_are_named(monkeypatch):
    """Each process sees one of them; a CPU none."""
    monkeypatch.setattr(runs, "usable_device", lambda name: torch.device(name or "cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert runs._devices(None) == runs._devices("cuda") == ["4", "6", "7"]
    assert (runs._devices("cuda:1"), runs._devices("cpu")) == (["6"], [""])
    assert (runs.default_jobs("cuda"), runs.default_jobs("cuda:2")) == (3, 1)
    assert runs.default_jobs("cpu") == torch.get_num_threads()


def test_the_index_has_the_studies_of_earlier_commands(tmp_path):
    """It had those of the last one alone, while all pages lay beside it."""
    for name, setting in (("sensitivity", "here"), ("stages", "there")):
        write_verdict(tmp_path / name / "verdict.json", StudyVerdict(name, f"of {name}", setting, "c", ()))
    text = write_index(tmp_path).read_text()
    assert text.index("[stages](stages/study.md): of stages") < text.index("of sensitivity")
    assert "Measured on" not in text  # of which?
    (tmp_path / "stages" / "verdict.json").write_text("half a fi")
    assert write_index(tmp_path).read_text().startswith("# Studies\n\nMeasured on here.\n\n| study |")
