"""``cpm train --solver``: what the prototxts say is what is trained, and snapshots are Caffe's."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from device_reads import Reads
from solver_prototxts import FLIC_AT_64, SOLVER, metrics, train, write
from support import golden
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro import ops
from cpm_repro.caffe import CaffeNet, read_caffemodel, read_solverstate
from cpm_repro.caffe.caffemodel import write_caffemodel
from cpm_repro.caffe.weight_files import load_weights
from cpm_repro.cli import main
from cpm_repro.data import Batch, TrainLoader, open_dataset
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.device import float32_products
from cpm_repro.errors import UserError
from cpm_repro.model import build, load_by_name
from cpm_repro.training import prefetch, solver_run
from cpm_repro.training.caffe_stages import CaffeStages
from cpm_repro.training.report import report
from cpm_repro.training.solver_data import batch_blobs, scaled
from cpm_repro.training.solver_plan import read_plan
from cpm_repro.training.solver_run import train_solver


def test_the_prototxts_are_trained_and_snapshots_written(tmp_path, capsys):
    solver = write(tmp_path)
    run = tmp_path / "run"
    command = ["train", "--solver", str(solver), "--data", "synthetic", "--out", str(run)]
    assert main([*command, "--set", "validate_people=7", "--set", "validate_every=0.4"]) == 0
    printed = capsys.readouterr().out
    assert "iteration 5  loss" in printed
    assert printed.index("estimate: ") < printed.index("iteration 1  loss")
    assert " of activations, about " in printed
    assert "for 5 updates" in printed
    assert printed.count("snapshot ") >= 3
    names = sorted(path.name for path in (run / "snapshots").iterdir())
    snapshots = [f"pose_iter_{i}.{kind}" for i in (2, 4, 5) for kind in ("caffemodel", "solverstate")]
    assert names == ["pose_best.caffemodel", *snapshots]
    made = metrics(run)
    assert [record["lr"] for record in made] == pytest.approx(
        [8e-5, 8e-5, 8e-5 * 0.333, 8e-5 * 0.333, 8e-5 * 0.333**2], rel=1e-12
    )
    assert all(len(record["loss"]) == 3 for record in made)
    _check_watching(run, printed, made)
    state = read_solverstate(run / "snapshots" / "pose_iter_5.solverstate")
    assert (state.iter, state.current_step) == (5, 2)
    assert len(state.history) == sum(len(a) for a in read_caffemodel(
        run / "snapshots" / "pose_iter_5.caffemodel").values())  # fmt: skip


def _check_watching(run, printed, made):
    """Scores, curves, table and TensorBoard's events, as runs of presets have them."""
    scored = metrics(run, "validation")
    assert [record["iteration"] for record in scored] == [2, 4, 5]
    assert all(len(record["pck"]) == 3 for record in scored)
    assert printed.count("validation PCK@0.2 per stage") == 3
    text = (run / "report.md").read_text()
    assert text in printed
    assert "# solver.prototxt on synthetic" in text
    assert "| Stage | Head | Sho | Elb | Wri | Hip | Kne | Ank | Total |" in text
    assert "| Stage | Loss, Caffe's units, last 5 updates | per pixel |" in text
    tables = json.loads((run / "scores.json").read_text())
    assert [table["total"] for table in tables] == pytest.approx(scored[-1]["pck"])
    assert (run / "curves.png").stat().st_size > 1000
    assert "data:image/png;base64," in (run / "report.html").read_text()
    assert made[0]["loss_per_pixel"] == pytest.approx([2 * loss / (15 * 16 * 16) for loss in made[0]["loss"]])
    assert made[0]["gradient_norm"] > 0
    if find_spec("tensorboard"):
        assert len(list((run / "tensorboard").iterdir())) == 1


def test_a_crop_that_people_do_not_fit_into_is_said_before_any_work(tmp_path):
    plan = read_plan(write(tmp_path, arch="flic_4stage", width=0.03))
    assert plan.remarks == ()
    plan = read_plan(write(tmp_path, arch="flic_4stage", width=0.03, **FLIC_AT_64))
    (said,) = plan.remarks
    assert said.startswith("warning: people are cut off: a standing person fills 366% of the crop's side, ")
    assert said.endswith("target_dist 1.171 makes them 234 px high in the data layer's crop of 64 px")


def test_batches_are_moved_ahead_as_in_runs_of_presets(tmp_path, monkeypatch):
    """One copy to the device while the update before works; on a CPU there is nothing to move."""
    used = []

    @contextmanager
    def watched(loader, device):
        with prefetch.loading(loader, device) as batches:
            yield (used.append(device.type) or batch for batch in batches)

    monkeypatch.setattr(solver_run, "loading", watched)
    train(write(tmp_path, solver=SOLVER + "iter_size: 2"), tmp_path / "run", data="synthetic", iterations=2)
    assert used == ["cpu"] * 4


def test_a_pass_waits_for_its_device_once(tmp_path):
    """For the losses and the gradient's norm together, as updates of presets do."""
    plan = read_plan(write(tmp_path, solver=SOLVER + "iter_size: 2"))
    people = open_dataset("synthetic", "train")
    run = solver_run._SolverRun(plan, people, tmp_path / "run", 5, 0, 1.0, torch.device("cpu"))
    with TrainLoader(people, ReleaseAugment(plan.data.augment, "exact"), 2, 0) as batches:
        given = [next(batches) for _ in range(4)]
    run.step(iter(given[:2]), 0)  # momentum is made
    with Reads() as reads:
        done = run.step(iter(given[2:]), 1)
    assert reads.seen == ["Tensor.tolist"] * 2
    assert len(done.losses) == 3
    assert done.objective == pytest.approx(sum(done.losses))  # means of the two passes, both
    gradients = [weight.grad for weight in run.net.parameters()]
    assert done.norm == pytest.approx(float(torch.nn.utils.get_total_norm(gradients)) / 2)


def test_what_is_scored_is_what_the_deploy_net_says(tmp_path):
    """flic_4stage has dropout, which is for training alone."""
    plan = read_plan(write(tmp_path, arch="flic_4stage", width=0.03, **FLIC_AT_64))
    net = CaffeNet(plan.net, "TRAIN", seed=1)
    stages = CaffeStages(net, plan.data)
    assert stages.tops == ["conv7_stage1", *(f"Mconv5_stage{stage}" for stage in (2, 3, 4))]
    deploy = build("flic_4stage", width=0.03, parts=14).eval()
    net.save(tmp_path / "w.caffemodel")
    load_by_name(deploy, load_weights(tmp_path / "w.caffemodel"))
    data = torch.rand(2, 4, 64, 64) - 0.5
    with torch.no_grad():
        ours = stages.eval()(data)
        assert len(stages(data, 2)) == 2
        for maps, wanted in zip(ours, deploy(data), strict=True):
            assert float((maps - wanted).abs().max()) < 1e-6


def test_a_run_whose_held_out_people_have_no_torso_goes_on_unscored(tmp_path, capsys, monkeypatch):
    """Its scores were of nobody."""
    solver = write(tmp_path)
    monkeypatch.setattr("cpm_repro.training.start._any_torso", lambda *_: False)
    train_solver(solver, tmp_path / "run", data="synthetic", iterations=1)
    assert "nothing is scored on the way: synthetic: nobody of the " in capsys.readouterr().out


def test_a_run_that_nobody_can_be_scored_of_goes_on(tmp_path, capsys, monkeypatch):
    solver = write(tmp_path)

    def nobody(source, split, **given):
        if split == "val":
            raise UserError(f"{source}: nobody is in the split val")
        return open_dataset(source, split, **given)

    monkeypatch.setattr(solver_run, "open_dataset", nobody)
    finished = train_solver(solver, tmp_path / "run", data="synthetic", iterations=1).finished
    assert "nothing is scored on the way: synthetic: nobody is in the split val" in capsys.readouterr().out
    report(finished)
    assert "Nobody was held out: nothing is scored." in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.filterwarnings("ignore::cpm_repro.data.annotations.DataWarning")
def test_a_photograph_that_cannot_be_read_gives_way_whoever_it_is_of(tmp_path):
    """The first one of all ended the run before it began."""
    folder = tmp_path / "lspet"
    (folder / "images").mkdir(parents=True)
    joints = np.ones((14, 3, 20))
    joints[:, :2] = np.random.default_rng(0).uniform(5, 75, (14, 2, 20))
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    for number in range(1, 21):
        cv2.imwrite(str(folder / "images" / f"im{number:05}.jpg"), np.full((80, 80, 3), number, np.uint8))
    for first in ("im00001.jpg", "im00002.jpg"):  # of those held out, and of those to train on
        (folder / "images" / first).write_text("<html>")
    train_solver(write(tmp_path), tmp_path / "run", data=str(folder), iterations=1)
    assert len(metrics(tmp_path / "run")) == len(metrics(tmp_path / "run", "validation")) == 1


def test_data_parameters_come_from_the_prototxt(tmp_path):
    changed = {"sigma: 7": "sigma: 5", "max_rotate_degree: 40": "max_rotate_degree: 10",
               "scale_min: 0.7": "scale_min: 0.9"}  # fmt: skip
    settings = read_plan(write(tmp_path, **changed)).data
    assert (settings.batch, settings.parts, settings.stride) == (2, 14, 8)
    assert (settings.sigma, settings.sigma_center) == (5.0, 7.3043)
    augment = settings.augment
    assert (augment.max_rotate_degree, augment.scale_min, augment.crop_size_x) == (10.0, 0.9, 128)
    assert augment.target_dist == 0.4073
    # A field that the file leaves out has Caffe's default, not the release's value.
    bare = read_plan(write(tmp_path, **{"scale_prob: 1": "", "center_perterb_max: 0": ""})).data.augment
    assert (bare.scale_prob, bare.center_perterb_max) == (0.5, 10.0)


def test_blobs_are_the_data_layers(tmp_path):
    """Against golden arrays of the original layer: no augmentation, crop 184."""
    from cpm_repro.data.exact import ExactConfig, ExactDraw

    stored = np.load(golden("cpmdata.npz"))
    param = json.loads(golden("cpmdata_configs.json").read_text())["none"]
    param = param.get("transform_param", param)
    settings = read_plan(write(tmp_path)).data
    dataset = open_dataset(str(golden("cpmdata_lmdb")), "train")
    augment = ReleaseAugment(ExactConfig.from_transform_param(param), "exact")
    sample = next(dataset[i] for i in range(len(dataset)))
    crop = augment.apply(sample, dataset.skeleton, ExactDraw())
    from cpm_repro.data.loader import collate

    blobs = batch_blobs(
        collate([crop]), replace(settings, sigma_center=param["sigma_center"]), torch.device("cpu")
    )
    record = int(np.flatnonzero(stored["none_record"] == 0)[0])
    assert np.abs(blobs["label"][0].numpy() - stored["none_label"][record]).max() < 1e-6
    assert np.abs(blobs["data"][0, 3].numpy() - stored["none_center_map"][record]).max() < 1e-6


def test_blobs_have_the_widths_and_the_stride_of_the_prototxt(tmp_path):
    settings = replace(read_plan(write(tmp_path)).data, sigma=5.0, sigma_center=11.0, stride=4)
    joints, center = torch.rand(2, 1, 14, 2) * 64, torch.rand(2, 2) * 64
    visible = torch.ones(2, 1, 14, dtype=torch.uint8)
    batch = Batch(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), joints, visible, center)
    blobs = batch_blobs(batch, settings, torch.device("cpu"))
    assert torch.equal(blobs["data"][:, 3:], ops.center_map(center, size=(64, 64), sigma=11.0, cutoff=True))
    label = ops.belief_maps(joints, visible, grid=(16, 16), stride=4, sigma=5.0)
    assert torch.equal(blobs["label"], label)


def test_people_without_a_scale_are_as_tall_as_their_joints_box():
    given = open_dataset("synthetic", "train", size=2)
    assert scaled(given) is given

    class WithoutScales:
        name, skeleton = given.name, given.skeleton

        def __len__(self):
            return len(given)

        def __getitem__(self, index):
            return replace(given[index], scale=float("nan"))

    assert scaled(WithoutScales())[1].scale == given[1].extent / 200


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        (SOLVER.replace('"step"', '"cosine"'), "unknown lr_policy 'cosine'"),
        (SOLVER + "learning_rate: 3", "learning_rate"),
        (SOLVER + 'type: "Adam"', "wanted type SGD, got Adam"),
        (SOLVER + "snapshot_format: HDF5", "snapshot_format: wanted BINARYPROTO"),
        (SOLVER.replace("max_iter: 5", ""), "max_iter: wanted at least 1"),
        (SOLVER.replace('net: "train.prototxt"', ""), "wanted one of net,"),
        (SOLVER.replace("train.prototxt", "absent.prototxt"), "absent.prototxt"),
    ],
)
def test_solvers_that_cannot_be_followed_are_one_line(tmp_path, capsys, solver, words):
    path = write(tmp_path, solver)
    assert main(["train", "--solver", str(path), "--data", "synthetic", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sigma: 7\n": "sigma: 0\n"}, "layer 'data': sigma: wanted a positive number, got 0"),
        ({"sigma_center: 7.3043": "sigma_center: inf"}, "sigma_center: wanted a positive number, got inf"),
        ({"target_dist: 0.4073": "target_dist: nan"}, "target_dist: wanted a positive number, got nan"),
        ({"scale_min: 0.7": "scale_min: -0.7"}, "scale_min: wanted a positive number, got -0.7"),
        ({"degree: 40": "degree: nan"}, "max_rotate_degree: wanted a finite number, got nan"),
        ({'type: "EuclideanLoss"': 'type: "Eltwise"'}, "net 'tiny_train' has no loss layer in this phase"),
    ],
)
def test_nets_that_cannot_be_trained_are_one_line(tmp_path, changes, words):
    with pytest.raises(UserError, match=re.escape(words)):
        train(write(tmp_path, **changes), tmp_path / "run", data="synthetic")
    assert not (tmp_path / "run").exists()


def test_a_seed_of_more_bits_than_caffes_generators_is_cut_as_there(tmp_path):
    losses = []
    for name, seed in (("long", 3 + 2**40), ("short", 3)):
        solver = write(tmp_path, SOLVER.replace("random_seed: 3", f"random_seed: {seed}"))
        train(solver, tmp_path / name, data="synthetic", iterations=1)
        losses += [record["loss"] for record in metrics(tmp_path / name)]
    assert losses[0] == losses[1]


def test_data_and_options_that_do_not_fit_are_one_line(tmp_path, capsys):
    solver = write(tmp_path)
    with pytest.raises(UserError, match=r"source lmdb/MPI is not there: give --data"):
        train(solver, tmp_path / "run")
    with pytest.raises(UserError, match="labels 14 parts, the data layer wanted num_parts 9"):
        train(write(tmp_path, **{"num_parts: 14": "num_parts: 9"}), tmp_path / "run", data="synthetic")
    with pytest.raises(UserError, match=r"wanted at least one batch of \d+ people, got"):
        train(write(tmp_path, batch=100_000_000), tmp_path / "run", data="synthetic")
    assert main(["train", "--solver", str(write(tmp_path)), "--lr", "0.1"]) == 2
    assert "--lr does not go with --solver" in capsys.readouterr().err
    assert main(["train", "--solver", str(write(tmp_path)), "--set", "solver.lr=0.1"]) == 2
    assert "--set solver.lr does not go with --solver, whose prototxt says it" in capsys.readouterr().err
    assert main(["train", "--solver", str(write(tmp_path)), "--set", "validate_every=0"]) == 2
    assert "validate_every must lie in (0, 1], got 0" in capsys.readouterr().err
    assert main(["train", "--solver", str(write(tmp_path)), "--iterations", "0"]) == 2
    assert "iterations must be positive, got 0" in capsys.readouterr().err
    assert main(["train", "--snapshot", "x.solverstate"]) == 2
    assert "--snapshot goes with --solver" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_rate_that_diverges_says_when(tmp_path):
    solver = write(tmp_path, SOLVER.replace("base_lr: 8e-05", "base_lr: 1e30"))
    with pytest.raises(UserError, match=r"no longer finite at iteration \d \(loss_stage1 .*lower base_lr"):
        train(solver, tmp_path / "run", data="synthetic")
    (path,) = (tmp_path / "run" / "nonfinite").glob("*.json")
    known = json.loads(path.read_text())
    assert any(isinstance(value, str) for value in known["loss_per_stage"])  # "nan" or "inf"
    assert any("conv1_1" in name for name in known["gradient_norm"])
    assert path.with_suffix(".pt").exists()


def test_what_the_losses_weigh_is_what_is_shown(tmp_path, capsys):
    """Caffe's line has the objective, beside every loss as it stands."""
    half = {'name: "loss_stage2"': 'name: "loss_stage2" loss_weight: 0.5'}
    train(write(tmp_path, **half), tmp_path / "run", data="synthetic", iterations=1)
    (line,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("iteration 1  ")]
    (losses,) = [record["loss"] for record in metrics(tmp_path / "run")]
    whole = losses[0] + 0.5 * losses[1] + losses[2]
    assert line.startswith(f"iteration 1  loss {whole:.4f}  loss_stage1 {losses[0]:.3f}")


BATCH_NORM = """layer { name: "bn" type: "BatchNorm" bottom: "conv1_1" top: "conv1_1" }
layer { name: "relu1_1\""""


def test_what_is_looked_at_before_the_first_update_leaves_batch_norm_alone(tmp_path):
    """Estimate and scores run the net on empty crops: no sample of the data, and not of a resumed run."""
    plan = read_plan(write(tmp_path, **{'layer { name: "relu1_1"': BATCH_NORM}))
    people = open_dataset("synthetic", "train")
    run = solver_run._SolverRun(plan, people, tmp_path / "run", 5, 0, 1.0, torch.device("cpu"))
    run.start(None, None)
    run.hold_out("synthetic", 3)
    assert run.scores is not None
    assert [float(blob.detach().abs().max()) for blob in run.net.bn.blobs()] == [0, 0, 0]
    with TrainLoader(people, ReleaseAugment(plan.data.augment, "exact"), 2, 0) as batches:
        run.step(batches, 0)
    assert run.net.bn.factor.item() == 1


def test_weights_of_no_layer_of_the_net_are_refused(tmp_path):
    """A run from the fillers would look like one from these weights."""
    weights = tmp_path / "other.caffemodel"
    write_caffemodel(weights, {"fc6": [np.ones((2, 2))], "fc7": [np.ones(2)]})
    expected = r"other.caffemodel: wanted weights of net 'tiny_train', such as conv1_1, got those of 2 other"
    with pytest.raises(UserError, match=expected):
        train(write(tmp_path), tmp_path / "run", data="synthetic", weights=weights)
    assert not (tmp_path / "run").exists()


def test_a_net_of_which_nothing_is_trained_is_refused(tmp_path):
    still = {f"lr_mult: {rate} ": "lr_mult: 0 " for rate in (1, 2, 4, 8)}
    with pytest.raises(UserError, match=r"net 'tiny_train': nothing is trained, every lr_mult is 0"):
        train(write(tmp_path, **still), tmp_path / "run", data="synthetic")
    assert not (tmp_path / "run").exists()


def test_an_lmdb_of_the_original_is_trained_from(tmp_path):
    source = f'source: "{golden("cpmdata_lmdb")}"'
    solver = write(tmp_path, **{'source: "lmdb/MPI"': source})
    train(solver, tmp_path / "run", iterations=1)
    assert len(metrics(tmp_path / "run")) == 1


def test_tf32_is_off_while_a_prototxt_is_trained_and_scored(tmp_path, monkeypatch):
    """The release's arithmetic is float32; the device is told that it is a GPU."""
    seen = {"_update": [], "_validate": []}
    for name, calls in seen.items():
        original = getattr(solver_run._SolverRun, name)

        def looking(self, *given, original=original, calls=calls):
            calls.append(tf32_flags())
            return original(self, *given)

        monkeypatch.setattr(solver_run._SolverRun, name, looking)
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr(solver_run, "float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
    with tf32_allowed(True, True):
        train(write(tmp_path), tmp_path / "run", data="synthetic", iterations=1)
        assert tf32_flags() == (True, True)
    assert seen == {"_update": [(False, False)], "_validate": [(False, False)]}
