"""The runner: what is measured, what is kept, what is called stale, and what is never ticked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import data_root

from cpm_repro.checklist import (
    evidence,
    load_claims,
    record_assignment,
    record_evidence,
    record_scores,
    run_checklist,
)
from cpm_repro.cli import main
from cpm_repro.errors import UserError
from cpm_repro.evaluation import PROTOCOLS, evaluate


def quiet(_: str) -> None:
    pass


@pytest.fixture
def published():
    """The folder of the published predictions, before ``nothing_given`` forgets where it is."""
    return data_root("published_predictions").parent


@pytest.fixture(autouse=True)
def nothing_given(request, monkeypatch):
    if "published" in request.fixturenames:
        request.getfixturevalue("published")
    monkeypatch.delenv("CPM_DATA", raising=False)
    monkeypatch.delenv("CPM_GOLDEN", raising=False)


def by_id(results):
    return {result.claim.id: result for result in results}


def run(folder, *only, **options):
    return by_id(run_checklist(folder, only=only or ["train.base_lr"], say=quiet, **options))


def test_what_needs_only_the_code_is_measured(tmp_path):
    results = run(tmp_path, "train.l", "train.gamma")
    measured = [result for name, result in results.items() if name.startswith(("train.l", "train.gamma"))]
    assert len(measured) == 8
    assert {result.status for result in measured} == {"reproduced"}
    proof = json.loads((tmp_path / results["train.gamma"].proof).read_text())
    assert proof["value"] == 0.333
    assert proof["hardware"]
    assert proof["date"].endswith("+00:00")


def test_nothing_is_ticked_without_a_run(tmp_path):
    results = run(tmp_path, "train.base_lr")
    for name, result in results.items():
        assert (result.status == "not run") == (name != "train.base_lr")
        if result.status == "not run":
            assert result.missing
            assert result.value is None
            assert not result.proof
    text = (tmp_path / "CHECKLIST.md").read_text()
    assert text.count("| reproduced") == 1


def test_what_is_missing_is_named_with_the_command(tmp_path):
    results = run(tmp_path)
    score = results["scores.lsp.total"]
    assert "lsp_test_mpii_lsp.npz" in score.missing[0]
    assert "--data" in score.claim.command
    assert any("pose_iter_395000.caffemodel" in item for item in results["paper.lsp"].missing)
    text = (tmp_path / "CHECKLIST.md").read_text()
    assert run(tmp_path, "scores.lsp.total")["scores.lsp.total"].status == "not run"  # asked for by name
    wanted = "weights pose_iter_395000.caffemodel (give their folder with --weights)"
    assert f"not run: missing {wanted}; the LSP data set. Run: cpm eval" in text
    assert "missing a run. Run: cpm checklist |" in text  # of what only= left out


@pytest.mark.parametrize("place", ["", "_trained_LEEDS_PC"])
def test_weights_that_are_there_are_not_called_missing(tmp_path, place):
    (tmp_path / "models" / place).mkdir(parents=True)
    (tmp_path / "models" / place / "pose_iter_395000.caffemodel").touch()
    results = run(tmp_path, weights=tmp_path / "models")
    assert results["paper.lsp"].missing == ("the LSP data set",)
    assert "pose_iter_40000.caffemodel" in results["paper.flic.elbow"].missing[0]


def test_published_scores_are_reproduced_from_the_folder_given(tmp_path, published):
    results = run(tmp_path, "scores", data=published)
    measured = [r for name, r in results.items() if name.startswith("scores")]
    assert len(measured) == 32
    assert {result.status for result in measured} == {"reproduced"}


def test_a_value_that_is_off_differs_by_how_much(tmp_path):
    record_evidence(tmp_path, "paper.lsp", 83.0)
    result = run(tmp_path)["paper.lsp"]
    assert (result.status, result.difference) == ("differs", "-1.32 %")
    assert "differs by -1.32 %" in (tmp_path / "CHECKLIST.md").read_text()


def test_the_status_is_judged_from_the_value_not_taken_from_the_file(tmp_path):
    path = record_evidence(tmp_path, "paper.lsp", 84.32)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"value": 50.0}))
    assert run(tmp_path)["paper.lsp"].status == "differs"


def test_an_older_proof_is_stale_once_its_files_changed(tmp_path, monkeypatch):
    record_evidence(tmp_path, "study.stages", "holds")
    fresh = run(tmp_path)["study.stages"]
    assert (fresh.status, fresh.stale) == ("reproduced", False)
    monkeypatch.setattr("cpm_repro.checklist.run.digest", lambda _: "another")
    stale = run(tmp_path)["study.stages"]
    assert (stale.status, stale.stale) == ("reproduced", True)
    assert "stale: the code has changed since" in (tmp_path / "CHECKLIST.md").read_text()
    assert 'class="stale"' in (tmp_path / "CHECKLIST.html").read_text()


def test_the_digest_follows_the_contents_of_the_files(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "room" / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(evidence.cpm_repro, "__file__", str(package / "__init__.py"))
    first = evidence.digest(["room"])
    assert evidence.digest(["room"]) == first
    (package / "room" / "a.py").write_text("x = 2\n")
    second = evidence.digest(["room"])
    (package / "room" / "b.py").write_text("")
    assert len({first, second, evidence.digest(["room"])}) == 3


def test_a_study_that_holds_says_on_what(tmp_path):
    record_evidence(tmp_path, "study.stages", "holds", detail="synthetic data, 120 updates")
    run(tmp_path)
    assert "| reproduced: synthetic data, 120 updates |" in (tmp_path / "CHECKLIST.md").read_text()


def test_an_undecided_study_is_not_run_and_says_why(tmp_path):
    record_evidence(tmp_path, "study.schemes.joint", "undecided", detail="20 minutes and three seeds")
    result = run(tmp_path)["study.schemes.joint"]
    assert result.status == "not run"
    assert result.missing == ("a larger budget: 20 minutes and three seeds",)


def scores(protocol="lsp-pck", people=1000, total=84.4, **options):
    """What ``cpm eval`` writes, of two people said to be more."""
    parts = len(PROTOCOLS[protocol].skeleton)
    body = np.random.default_rng(0).uniform(0, 99, (2, parts, 2))
    made = evaluate(body, body, protocol, suspicious=False, **options).to_dict()
    return made | {"people": people, "total": total, "rows": {"Elb": 80.0}}


def test_scores_of_an_evaluation_become_a_proof(tmp_path):
    file = tmp_path / "scores.json"
    file.write_text(json.dumps([scores(total=10.0), scores(total=84.30)]))  # the last stage counts
    record_assignment(tmp_path, f"paper.lsp={file}")
    result = run(tmp_path)["paper.lsp"]
    assert (result.status, result.value) == ("reproduced", 84.30)
    file.write_text(json.dumps(scores("flic-pck", 1016)))
    record_assignment(tmp_path, f"paper.flic.elbow={file}:Elb")
    assert run(tmp_path)["paper.flic.elbow"].value == 80.0
    plain = tmp_path / "scores"  # no suffix, no row: the total
    plain.write_text(json.dumps(scores(total=84.31)))
    record_assignment(tmp_path, f"paper.lsp={plain}")
    assert run(tmp_path)["paper.lsp"].value == 84.31
    with pytest.raises(UserError, match="ID=SCORES"):
        record_assignment(tmp_path, "paper.lsp")
    with pytest.raises(UserError, match="no score 'Toe'"):
        record_scores(tmp_path, "paper.flic.elbow", file, "Toe")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (scores(protocol="lspet-pck"), "about lsp-pck, got lspet-pck"),
        (scores(people=500), "about 1000 people, got 500"),
        (scores(threshold=0.5), "about threshold 0.2, got 0.5"),
        (scores(norm=[50.0, 50.0]), "about rule right .*left shoulder.* got right .*length given"),
        ({}, "got None"),
        ([], "got None"),
    ],
)
def test_scores_of_another_rule_or_other_people_prove_nothing(tmp_path, content, words):
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words):
        record_scores(tmp_path, "paper.lsp", file)
    assert run(tmp_path)["paper.lsp"].status == "not run"


def test_the_script_s_flic_score_is_not_the_paper_s(tmp_path):
    file = tmp_path / "scores.json"
    for options in ({"norm": "predicted-torso"}, {"swap_to_observer": False}):
        file.write_text(json.dumps(scores("flic-pck", 1016, **options)))
        with pytest.raises(UserError, match=r"claim paper\.flic\.elbow is about rule"):
            record_scores(tmp_path, "paper.flic.elbow", file, "Elb")


def test_what_the_user_gets_wrong(tmp_path):
    with pytest.raises(UserError, match=r"unknown claim 'paper\.lps'; did you mean paper\.lsp"):
        run_checklist(tmp_path, only=["paper.lps"], say=quiet)
    with pytest.raises(UserError, match="--data: wanted a folder"):
        run_checklist(tmp_path, data=tmp_path / "absent", say=quiet)
    with pytest.raises(UserError, match="unknown claim"):
        record_evidence(tmp_path, "nothing", 1.0)
    with pytest.raises(UserError, match=r"absent\.json: cannot be read"):
        record_scores(tmp_path, "paper.lsp", tmp_path / "absent.json")
    other = record_evidence(tmp_path, "paper.lsp.mpii", 90.5).read_text()
    for text, said in (
        ("{", "expected JSON"),
        ("{}", "not a proof"),
        (other, r"wanted a proof of paper\.lsp, got"),
    ):
        (tmp_path / "proofs" / "paper.lsp.json").write_text(text)
        with pytest.raises(UserError, match=said):
            run(tmp_path)


def test_the_three_reports_hold_every_claim(tmp_path):
    run(tmp_path)
    entries = json.loads((tmp_path / "CHECKLIST.json").read_text())
    assert [entry["id"] for entry in entries] == [claim.id for claim in load_claims()]
    page, text = (tmp_path / "CHECKLIST.html").read_text(), (tmp_path / "CHECKLIST.md").read_text()
    for claim in load_claims():
        assert f'id="{claim.id}"' in page
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert f"{len(entries)} claims: 1 reproduced, 0 differs, {len(entries) - 1} not run." in text
    assert "proofs/train.base_lr.json" in text
    assert "proofs/train.base_lr.json" in page


def test_scores_are_recorded_by_the_command(tmp_path, capsys):
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(scores(total=84.30)))
    out = tmp_path / "checklist"
    assert (
        main(["checklist", "--out", str(out), "--only", "train.gamma", "--record", f"paper.lsp={file}"]) == 0
    )
    entries = {entry["id"]: entry for entry in json.loads((out / "CHECKLIST.json").read_text())}
    assert (entries["paper.lsp"]["status"], entries["paper.lsp"]["value"]) == ("reproduced", 84.30)
    assert main(["checklist", "--out", str(out), "--record", "paper.lps=x.json"]) == 2
    assert "did you mean paper.lsp?" in capsys.readouterr().err
