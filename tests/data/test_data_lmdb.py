from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import cv2
import numpy as np
import pytest
from support import golden

from cpm_repro.caffe.datum import encode_datum
from cpm_repro.data.datum_record import decode_record, encode_record
from cpm_repro.data.lmdb_store import LmdbDataset, write_lmdb
from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import format_record, read_records, same_records, write_records
from cpm_repro.errors import UserError

lmdb = pytest.importorskip("lmdb", reason="the lmdb package is not installed")


def make_record(index: int, others: int = 0, width: int = 80, height: int = 90) -> PersonRecord:
    rng = np.random.default_rng(index)
    joints = np.round(rng.uniform(1, 80, (1 + others, 16, 3)), 3)
    joints[..., 2] = rng.integers(0, 2, joints.shape[:2])
    return PersonRecord(
        dataset="MPI",
        img_path=f"im{index % 7}.png",
        img_width=width,
        img_height=height,
        objpos=np.round(rng.uniform(1, 80, 2), 3),
        joint_self=joints[0],
        scale=round(float(rng.uniform(0.3, 3)), 3),
        joint_others=joints[1:],
        scale_other=np.round(rng.uniform(0.3, 3, others), 3),
        objpos_other=np.round(rng.uniform(1, 80, (others, 2)), 3),
        is_validation=index % 5 == 0,
        annolist_index=index + 1,
        people_index=1 + index % 3,
    )


@pytest.fixture
def images(tmp_path):
    for number in range(7):
        image = np.random.default_rng(number).integers(0, 256, (90, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"im{number}.png"), image)
    return tmp_path


def raw_values(folder) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(k): bytes(v) for k, v in transaction.cursor()}


def test_the_originals_values_are_rewritten_byte_for_byte():
    values = raw_values(golden("cpmdata_lmdb"))
    assert len(values) == 4
    for place, (key, value) in enumerate(sorted(values.items())):
        image, record = decode_record(value, key.decode())
        assert encode_record(image, record, place, 4) == value


def test_the_originals_values_are_understood():
    records = np.load(golden("cpmdata_geometry.npz"))
    dataset = LmdbDataset(golden("cpmdata_lmdb"))
    assert len(dataset) == 4
    for index in range(4):
        image, record = dataset.record(index)
        assert image.shape[:2] == tuple(records[f"record{index}_image_hw"])
        assert np.array_equal(record.joint_self, records[f"record{index}_joint_self"])
        assert np.array_equal(record.objpos, records[f"record{index}_objpos"])
        assert np.array_equal(record.joint_others, records[f"record{index}_joint_others"])
        assert np.array_equal(record.scale_other, records[f"record{index}_scale_other"])
        assert np.array_equal(record.objpos_other, records[f"record{index}_objpos_other"])
        assert record.scale == records[f"record{index}_scale"]
        assert record.annolist_index == records[f"record{index}_annolist_index"]
        assert dataset[index].scale == record.scale
        assert dataset[index].joints.shape == (1 + record.others, 14, 2)


@pytest.mark.parametrize("others", [0, 1, 2, 5])
def test_round_trip_of_one_record(others):
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    record = make_record(3, others)
    back_image, back = decode_record(encode_record(image, record, 0, 1), "im3.png")
    assert np.array_equal(back_image, image)
    assert same_records([back], [record], 1e-5)


def test_narrow_images_are_padded_with_grey():
    image = np.zeros((90, 50, 3), np.uint8)
    back, record = decode_record(encode_record(image, make_record(0, width=50), 0, 1), "x")
    assert back.shape == (90, 64, 3)
    assert (back[:, 50:] == 128).all()
    assert record.img_width == 50


def test_an_annotation_that_does_not_fit():
    with pytest.raises(UserError, match="rows"):
        encode_record(np.zeros((10, 80, 3), np.uint8), make_record(0, others=3), 0, 1)


def test_1000_people_go_through_an_lmdb(images, tmp_path):
    records = [make_record(index, index % 3) for index in range(1000)]
    out = tmp_path / "lmdb"
    assert write_lmdb(records, images, out, seed=4) == 1000
    assert sorted(raw_values(out)) == [b"%07d" % place for place in range(1000)]
    assert write_lmdb(records, images, out, seed=4) == 0
    dataset = LmdbDataset(out)
    stored = {
        dataset.record(index)[1].annolist_index: dataset.record(index)[1] for index in range(0, 1000, 7)
    }
    order = [dataset.record(index)[1].annolist_index for index in range(20)]
    assert order != sorted(order)
    for annolist_index, record in stored.items():
        wanted = records[annolist_index - 1]
        assert np.allclose(record.joint_self, wanted.joint_self, atol=1e-5)
        assert np.allclose(record.joint_others, wanted.joint_others, atol=1e-5)
    train, val = LmdbDataset(out, "train"), LmdbDataset(out, "val")
    assert (len(train), len(val)) == (800, 200)


def test_a_killed_writer_resumes_without_holes_or_duplicates(images, tmp_path):
    out = tmp_path / "lmdb"
    here = os.path.dirname(__file__)
    script = f"""
        import sys
        sys.path[:0] = [{here!r}, {os.path.dirname(here)!r}]
        from pathlib import Path
        from test_data_lmdb import make_record
        from cpm_repro.data.lmdb_store import write_lmdb
        print("ready", flush=True)
        write_lmdb([make_record(i, i % 3) for i in range(1500)], Path({str(images)!r}), {str(out)!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    while process.poll() is None and not _begun(out):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    records = [make_record(index, index % 3) for index in range(1500)]
    before = len(raw_values(out))
    assert before >= 200
    assert write_lmdb(records, images, out) == 1500 - before
    whole = tmp_path / "whole"
    write_lmdb(records, images, whole)
    assert raw_values(out) == raw_values(whole)


def _begun(out) -> bool:
    try:
        return len(raw_values(out)) >= 200
    except lmdb.Error:
        return False


def test_other_records_or_another_seed_are_refused(images, tmp_path):
    records = [make_record(index) for index in range(5)]
    write_lmdb(records, images, tmp_path / "lmdb")
    with pytest.raises(UserError, match="other records or another seed"):
        write_lmdb(records, images, tmp_path / "lmdb", seed=1)
    with pytest.raises(UserError, match="other records or another seed"):
        write_lmdb(records[:4], images, tmp_path / "lmdb")


def test_paths_that_leave_the_image_folder(images, tmp_path):
    from dataclasses import replace

    with pytest.raises(UserError, match="leaves it"):
        write_lmdb([replace(make_record(0), img_path="../im0.png")], images, tmp_path / "lmdb")


def test_foreign_records(tmp_path):
    with (
        lmdb.open(str(tmp_path), map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"0000000", b"not a datum at all \xff\xff\xff")
    with pytest.raises(UserError, match="record 0000000"):
        LmdbDataset(tmp_path)


@pytest.mark.parametrize(
    "planes",
    [np.zeros((3, 90, 80), np.uint8), np.zeros((4, 90, 80), np.uint8), np.zeros((4, 5, 80), np.uint8)],
)
def test_datums_of_another_layout(planes):
    with pytest.raises(UserError, match="key 7"):
        decode_record(encode_datum(planes), "key 7")


def test_not_an_lmdb(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="LMDB"):
        LmdbDataset(tmp_path)


def test_json_round_trip(tmp_path):
    records = [make_record(index, index % 4) for index in range(12)]
    assert write_records(tmp_path / "MPI_annotations.json", records) == 12
    assert same_records(read_records(tmp_path / "MPI_annotations.json"), records, 1e-9)


def test_json_has_three_decimals_and_does_not_nest_one_other_person():
    text = format_record(make_record(3, others=1))
    assert '"isValidation": 0.000' in text
    assert '"numOtherPeople": 1.000' in text
    assert '"img_paths": "im3.png"' in text
    assert '"joint_others": [[' in text
    assert '"joint_others": [[[' not in text
    assert '"joint_others": [[[' in format_record(make_record(3, others=2))
    assert '"joint_others": []' in format_record(make_record(3))


def test_json_of_a_cut_other_person(tmp_path):
    record = make_record(3, others=1)
    text = format_record(record)
    import json

    item = json.loads(text)
    item["joint_others"] = item["joint_others"][:11]
    (tmp_path / "cut.json").write_text(json.dumps({"root": [item]}))
    back = read_records(tmp_path / "cut.json")[0]
    assert np.allclose(back.joint_others[0, :11], record.joint_others[0, :11])
    assert (back.joint_others[0, 11:] == 0).all()


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"root": [{"dataset": "MPI"}]}', '{"root": [3]}'])
def test_bad_json(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_records(tmp_path / "bad.json")
