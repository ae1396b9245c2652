"""Several data sets as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_fakes import DotDataset, lspet_joints, skeleton_of, write_lspet

from cpm_repro.data import AugmentConfig, PoseSample, TrainLoader, data_name, open_dataset
from cpm_repro.data.mixed import MixedDataset
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14


class Shade(DotDataset):
    """Pictures of one shade, so that a crop tells its data set."""

    def __init__(self, size: int, shade: int) -> None:
        super().__init__(size)
        self._shade = shade

    def __getitem__(self, index: int) -> PoseSample:
        sample = super().__getitem__(index)
        sample.image[:] = self._shade
        return sample


def mix(weights=None, sizes=(30, 10), **options) -> MixedDataset:
    return MixedDataset([Shade(size, 50 + 50 * k) for k, size in enumerate(sizes)], weights, **options)


def test_without_weights_everybody_is_there_once():
    mixed = mix()
    assert len(mixed) == 40
    assert [mixed.place(k) for k in range(40)] == [(0, k) for k in range(30)] + [(1, k) for k in range(10)]


@pytest.mark.parametrize(("weights", "shares"), [((1, 1), (30, 30)), ((3, 1), (30, 10)), ((1, 3), (30, 90))])
def test_weights_are_shares_of_an_epoch_with_everybody_in_it(weights, shares):
    mixed = mix(weights)
    assert len(mixed) == sum(shares)
    places = Counter(mixed.place(k) for k in range(len(mixed)))
    for which, size in enumerate((30, 10)):
        counts = [places[which, k] for k in range(size)]
        assert sum(counts) == shares[which]
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1


def test_the_loader_mixes_and_stays_deterministic():
    def take(workers, start):
        with TrainLoader(mix((1, 1)), AugmentConfig(crop=32), 12, 5, workers=workers, start=start) as loader:
            return [next(loader) for _ in range(10 - start)]

    whole = take(0, 0)
    for batches in (take(3, 0), take(2, 3)):
        for a, b in zip(whole[-len(batches) :], batches, strict=True):
            assert torch.equal(a.image, b.image)
            assert torch.equal(a.joints, b.joints)
    shades = np.concatenate([batch.image[:, 16, 16, 0].numpy() for batch in whole[:5]])
    assert Counter(shades.tolist()) == {50: 30, 100: 30}
    assert len({tuple(batch.image[:, 16, 16, 0].tolist()) for batch in whole}) > 5


def test_a_size_is_taken_from_all():
    mixed = mix(sizes=(30, 30), size=10)
    assert Counter(mixed.place(k)[0] for k in range(10)) == {0: 5, 1: 5}
    with pytest.raises(IndexError):
        mixed.place(10)


def test_mistakes():
    other = Shade(3, 1)
    other.skeleton = skeleton_of(9)
    with pytest.raises(UserError, match="dots and dots have other parts: 14 and 9"):
        MixedDataset([Shade(3, 1), other])
    other.skeleton = skeleton_of(14)
    with pytest.raises(UserError, match="part 1 is head and p0"):
        MixedDataset([Shade(3, 1), other])
    other.skeleton = replace(CPM14, flip_pairs=())
    for both in ([Shade(3, 1), other], [other, Shade(3, 1)]):  # the first one's pairs were all people's
        with pytest.raises(UserError, match="dots and dots have other flip pairs"):
            MixedDataset(both)
    for weights in ((1,), (1, 0), (1, -1), (1, float("nan"))):
        with pytest.raises(UserError, match="expected 2 positive numbers"):
            mix(weights)


def test_data_sets_are_mixed_by_name(tmp_path):
    joints = lspet_joints(36)
    joints[:, 2] = 1
    spec = str(write_lspet(tmp_path / "lspet", joints))
    assert len(open_dataset(f"{spec}+synthetic", "train", seed=1)) == 34 + 100_000
    mixed = open_dataset(f"{spec}@1+synthetic@1", "train")
    assert (mixed.name, len(mixed)) == ("lspet+synthetic", 200_000)
    val = open_dataset(f"{spec}@1+synthetic@1", "val", size=251)
    assert len(val) == 251
    assert val[0].id.startswith("lspet")
    with pytest.raises(UserError, match="for every data set or for none"):
        open_dataset(f"{spec}@1+synthetic", "train")
    with pytest.raises(UserError, match="a weight belongs to"):
        open_dataset(f"{spec}@1", "train")
    with pytest.raises(UserError, match="nowhere"):
        open_dataset("synthetic+nowhere", "train")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("some/where/lspet", "lspet"),
        ("some/where/lspet/", "lspet"),
        ("synthetic", "synthetic"),
        ("some/where/a@2 + synthetic@1", "a@2+synthetic@1"),
        ("hands/a.csv+feet", "a.csv+feet"),
    ],
)
def test_what_data_are_called_without_their_folders(spec, name):
    assert data_name(spec) == name


def test_data_of_the_working_folder_have_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "a+b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert data_name(".") == "a+b"
    assert data_name(str(folder)) == "a+b"
    assert data_name("x/a@2+synthetic@1", "path/to/") == "path/to/a@2+synthetic@1"
