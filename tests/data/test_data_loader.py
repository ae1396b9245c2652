from __future__ import annotations

import threading
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from data_fakes import DotDataset, lspet_joints, write_lspet

from cpm_repro.cli import main
from cpm_repro.data import AugmentConfig, PoseSample, Readable, TrainLoader, open_dataset, val_batches
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.augment import apply_matrix
from cpm_repro.data.exact import ExactConfig
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.errors import UserError


def take(count: int, **options) -> list:
    options = {"batch": 4, "seed": 3, **options}
    with TrainLoader(options.pop("dataset", DotDataset()), AugmentConfig(crop=32), **options) as loader:
        return [next(loader) for _ in range(count)]


def same(a, b) -> bool:
    names = ["image", "joints", "visible", "center"] + ["matrix"] * (a.matrix is not None)
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "box", "shift": 0.1},
        {"method": "exact"},
        {"method": "device"},
        {"method": "fast", "half_body": 0.5, "occlusion": 0.5, "photometric": 0.4},
    ],
    ids=lambda settings: settings["method"],
)
def test_workers_do_not_change_batches(workers, settings):
    made = {}
    for count in (0, workers):
        with TrainLoader(
            scaled(DotDataset()), AugmentConfig(crop=32, **settings), 4, 3, workers=count
        ) as loader:
            made[count] = [next(loader) for _ in range(9)]
    assert all(map(same, made[0], made[workers]))
    assert settings["method"] != "device" or made[0][0].matrix is not None


@pytest.mark.parametrize("start", [1, 7])
def test_resuming_in_the_middle_of_an_epoch(start):
    assert all(map(same, take(12)[start:], take(12 - start, start=start, workers=2)))


def test_another_seed_gives_other_batches():
    assert not same(take(1)[0], take(1, seed=4)[0])


class Numbered(DotDataset):
    """Pictures that are their index, so that a crop tells which sample it came from."""

    def __getitem__(self, index: int) -> PoseSample:
        sample = super().__getitem__(index)
        sample.image[:] = index
        return sample


def test_every_epoch_visits_everybody_once_in_another_order():
    batches = take(15, dataset=Numbered(10))  # batches of 4: epochs of 10 straddle them
    seen = np.concatenate([batch.image[:, 16, 16, 0].numpy() for batch in batches])
    epochs = seen.reshape(6, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_one_sample_is_augmented_anew_in_each_epoch():
    first, second = take(2, dataset=DotDataset(1), batch=1)
    assert not torch.equal(first.joints, second.joints)


def test_shapes_and_padding():
    class Mixed(DotDataset):
        def __getitem__(self, index: int) -> PoseSample:
            return DotDataset(people=1 + index % 3)[index]

    batch = take(1, dataset=Mixed(9), batch=9)[0]
    assert batch.image.shape == (9, 32, 32, 3)
    assert batch.image.dtype == torch.uint8
    assert batch.joints.shape == (9, 3, 14, 2)
    assert batch.visible.dtype == torch.uint8
    people = (batch.visible[:, :, 0] != 2).sum(dim=1)
    assert sorted(people.tolist()) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


class Broken(DotDataset):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def __getitem__(self, index: int) -> PoseSample:
        if index == 5:
            raise self._error
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_reach_the_caller_with_the_sample(workers):
    with pytest.raises(RuntimeError, match=r"dots\[5\]: ZeroDivisionError: oops"):
        take(3, dataset=Broken(ZeroDivisionError("oops")), workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_gives_way_to_the_next(workers):
    broken = Broken(UserError("im5.jpg: does not decode"))
    with pytest.warns(DataWarning, match=r"dots: left out: im5\.jpg: does not decode") as said:
        got = take(5, dataset=broken, batch=4, workers=workers)
    assert len(said) == 1 or workers  # two threads may meet it at once
    whole = take(5, dataset=DotDataset(), batch=4, workers=0)
    pairs = [pair for a, b in zip(got, whole, strict=True) for pair in zip(a.joints, b.joints, strict=True)]
    assert sum(not torch.equal(*pair) for pair in pairs) == 2  # 20 samples are two epochs of ten people


def test_nothing_that_can_be_read_is_said_not_retried_forever():
    class Gone(DotDataset):
        def __getitem__(self, index: int) -> PoseSample:
            raise UserError(f"im{index}.jpg: does not decode")

    with (
        pytest.warns(DataWarning),
        pytest.raises(UserError, match="dots: wanted an image that can be read, got 10"),
    ):
        take(1, dataset=Gone())
    with (
        pytest.warns(DataWarning),
        pytest.raises(UserError, match="dots: wanted an image that can be read, got 10"),
    ):
        list(val_batches(Gone(), AugmentConfig(), 4))


def test_validation_leaves_out_whom_it_cannot_read():
    broken = Broken(UserError("im5.jpg: does not decode"))
    with pytest.warns(DataWarning, match="left out: im5"):
        batches = list(val_batches(broken, AugmentConfig(), 2, [1, 4, 5, 5, 6]))
    assert [b.index.tolist() for b in batches] == [[1, 4], [6]]


def test_two_loaders_closed_in_any_order_restore_opencv():
    """The second one found OpenCV at one thread already, and left it there for good."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    first, second = (TrainLoader(DotDataset(), AugmentConfig(), 2, seed) for seed in (0, 1))
    first.close()
    assert cv2.getNumThreads() == 1
    second.close()
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(threads)


def test_close_ends_the_threads_and_restores_opencv():
    before, threads = threading.active_count(), cv2.getNumThreads()
    cv2.setNumThreads(2)
    loader = TrainLoader(DotDataset(), AugmentConfig(), 2, 0, workers=2)
    next(loader)
    assert threading.active_count() > before
    assert cv2.getNumThreads() == 1
    loader.close()
    loader.close()
    assert threading.active_count() == before
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(threads)
    with pytest.raises(StopIteration):
        next(loader)


def test_bad_arguments():
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        TrainLoader(DotDataset(), AugmentConfig(), 0, 0)
    with pytest.raises(UserError, match="at least one"):
        TrainLoader(DotDataset(0), AugmentConfig(), 1, 0)


def test_validation_goes_through_everybody_in_order():
    dataset = DotDataset(10)
    batches = list(val_batches(dataset, AugmentConfig(), 4))
    assert [len(b.index) for b in batches] == [4, 4, 2]
    assert np.concatenate([b.index for b in batches]).tolist() == list(range(10))
    for val in batches:
        for row, index in enumerate(val.index):
            truth = dataset[int(index)]
            back = apply_matrix(val.inverse[row], val.batch.joints[row, 0].numpy())
            assert back == pytest.approx(truth.joints[0], abs=1e-3)
            assert np.array_equal(val.joints[row], truth.joints[0])
            assert np.array_equal(val.visible[row], truth.visible[0])


def scaled(dataset: DotDataset) -> DotDataset:
    class Scaled(DotDataset):
        def __getitem__(self, index: int) -> PoseSample:
            return replace(dataset[index], scale=0.6)

    return Scaled(len(dataset))


def test_the_methods_exact_and_fast_are_the_releases_augmentation():
    settings = {
        "scale_min": 0.8,
        "scale_max": 1.2,
        "rotate": 30.0,
        "flip": 0.4,
        "target_dist": 1.3,
        "shift": 0.1,
    }
    made = {}
    for method in ("exact", "fast"):
        config = AugmentConfig(crop=64, method=method, **settings)
        with TrainLoader(scaled(DotDataset()), config, 4, 3, workers=2) as loader:
            made[method] = [next(loader) for _ in range(3)]
    release = ExactConfig(64, 64, 1.3, 1.0, 0.8, 1.2, 30.0, 6.4, 0.4)
    for method, batches in made.items():
        cutter = ReleaseAugment(release, method)
        with TrainLoader(scaled(DotDataset()), cutter, 4, 3) as loader:
            assert all(same(batch, next(loader)) for batch in batches)
    for exact, fast in zip(made["exact"], made["fast"], strict=True):
        assert (exact.joints - fast.joints).abs().max() < 1e-3


def test_validation_by_scale():
    dataset = scaled(DotDataset(6))
    for method in ("exact", "fast"):
        val = next(val_batches(dataset, AugmentConfig(crop=64, method=method), 6))
        for row in range(6):
            truth = dataset[row]
            back = apply_matrix(val.inverse[row], val.batch.joints[row, 0].numpy())
            assert back == pytest.approx(truth.joints[0], abs=1e-3)
            assert val.extent[row] == truth.extent
            span = np.ptp(val.batch.joints[row, 0].numpy(), axis=0) / np.ptp(truth.joints[0], axis=0)
            assert span == pytest.approx([1.171 / 0.6] * 2, rel=1e-3)


def test_a_method_by_scale_needs_one():
    with (
        pytest.raises(UserError, match=r"dots/\d: augment\.method exact expects a scale"),
        TrainLoader(DotDataset(), AugmentConfig(method="exact"), 2, 0) as loader,
    ):
        next(loader)


def test_validation_of_some():
    batches = list(val_batches(DotDataset(10), AugmentConfig(), 4, indices=[7, 2]))
    assert batches[0].index.tolist() == [7, 2]
    assert batches[0].batch.image.shape == (2, 128, 128, 3)


def test_training_goes_on_beside_a_photograph_that_is_a_web_page(tmp_path):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(20))
    for name in ("im00001.jpg", "im00003.jpg"):  # one held out, one to train on
        (folder / "images" / name).write_text("<html>")
    small = ["--set", "network.width=0.05", "--set", "augment.crop=64", "--set", "solver.precision=float32"]
    options = ["--data", str(folder), "--iterations", "6", "--batch", "4", "--out", str(tmp_path / "run")]
    with pytest.warns(DataWarning) as said:
        assert main(["train", "--preset", "tiny", *options, *small]) == 0
    text = "\n".join(str(warning.message) for warning in said)
    assert "im00001.jpg" in text
    assert "im00003.jpg" in text
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


class Lone(DotDataset):
    """One picture that can be read among three."""

    def __getitem__(self, index: int) -> PoseSample:
        if index:
            raise UserError(f"im{index}.jpg: does not decode")
        return super().__getitem__(index)


def test_the_last_of_an_epoch_gives_way_to_its_first():
    with pytest.warns(DataWarning, match="left out"):
        (batch,) = take(1, dataset=Lone(3), batch=6)
    assert len(batch.image) == 6


def test_who_is_refused_again_and_again_is_named_once():
    def refuse(sample):
        raise UserError(f"{sample.id}: too small")

    readable = Readable(open_dataset("synthetic", "train", size=2))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [readable.made(index, refuse) for index in (0, 1, 0)] == [None] * 3
    assert len(said) == 2
