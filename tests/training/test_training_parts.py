"""The parts that weights were trained for against those that the data labels, by name."""

from dataclasses import replace

import pytest

from cpm_repro.cli import main
from cpm_repro.data import SyntheticDataset
from cpm_repro.errors import UserError
from cpm_repro.inference.weights import compare_parts
from cpm_repro.skeleton import CPM14, FLIC9, LSP14

SMALL = ["--set=network.width=0.05", "--set=augment.crop=64", "--batch=2", "--set=validate_people=4"]
WINGED = replace(CPM14, name="winged", parts=(*CPM14.parts[:3], "right_wing", *CPM14.parts[4:]))


def test_names_are_compared_where_the_weights_carry_them():
    assert compare_parts("w.pt", CPM14, "data", CPM14) == ""
    assert compare_parts("w.caffemodel", None, "data", WINGED) == ""
    assert compare_parts("w.pt", FLIC9, "data", CPM14) == ""  # other shapes: left at their filler
    said = compare_parts("w.pt", LSP14, "data", CPM14)
    assert said == "data has its parts in another order than w.pt: part 1 is head, was right_ankle"
    with pytest.raises(
        UserError, match=r"w\.pt was trained for other parts than data labels: right_wing is none"
    ):
        compare_parts("w.pt", CPM14, "data", WINGED)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--iterations=1", "--out", str(run), *SMALL]) == 0
    return run / "checkpoints" / "last.pt"


def test_weights_for_other_parts_are_refused_and_taken_without_names(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(SyntheticDataset, "skeleton", WINGED)
    command = ["train", "--iterations=1", *SMALL]
    assert main([*command, "--weights", str(weights), "--out", str(tmp_path / "a")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert (
        f"{weights} was trained for other parts than synthetic labels: right_wing is none of its 14" in said
    )
    assert not (tmp_path / "a").exists()
    bare = str(tmp_path / "bare.caffemodel")
    assert main(["convert", str(weights), bare]) == 0
    assert main([*command, "--weights", bare, "--out", str(tmp_path / "b")]) == 0


def test_another_order_is_a_warning_to_training_and_no_score(weights, tmp_path, capsys, monkeypatch):
    """The layers are worth starting from; scores of a shoulder against a hip are worth nothing."""
    monkeypatch.setattr(SyntheticDataset, "skeleton", LSP14)
    command = ["train", "--iterations=1", *SMALL, "--weights", str(weights), "--out", str(tmp_path / "a")]
    assert main(command) == 0
    order = f"synthetic has its parts in another order than {weights}: part 1 is right_ankle, was head"
    assert f"warning: {order}: belief maps begin with the wrong parts" in capsys.readouterr().out
    assert main(["eval", "--weights", str(weights), "--data", "synthetic"]) == 2
    assert f"{order}: scores would compare other parts" in capsys.readouterr().err
