"""Records in an LMDB, and what is none."""

import contextlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_fakes import assert_same, files_of, make_record, raw_values
from support import golden

from cpm_repro.caffe.datum import encode_datum
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.compact_record import decode_compact, encode_compact
from cpm_repro.data.datum_record import decode_record, encode_record, stored_as_validation
from cpm_repro.data.lmdb_store import LmdbDataset, record_sample
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Visibility

lmdb = pytest.importorskip("lmdb", reason="the lmdb package is not installed")


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
    assert_same([back], [record], 1e-5)


def test_narrow_images_are_padded_with_grey():
    image = np.zeros((90, 50, 3), np.uint8)
    back, record = decode_record(encode_record(image, make_record(0, width=50), 0, 1), "x")
    assert back.shape == (90, 64, 3)
    assert (back[:, 50:] == 128).all()
    assert record.img_width == 50


def test_an_annotation_that_does_not_fit():
    with pytest.raises(UserError, match="rows"):
        encode_record(np.zeros((10, 80, 3), np.uint8), make_record(0, others=3), 0, 1)


@pytest.mark.parametrize("damage", [b"x000000{}", b"0000000{", b"0000099", b"0000000[3]"])
def test_damaged_compact_records(images, tmp_path, damage):
    write_lmdb([make_record(0)], [images / "im0.png"], tmp_path / "lmdb", compact=True)
    with lmdb.open(str(tmp_path / "lmdb")) as environment, environment.begin(write=True) as transaction:
        value = transaction.get(b"0000000")
        transaction.put(b"0000000", damage + (value[7:] if damage == b"0000099" else b""))
    with pytest.raises(UserError, match="record 0000000"):
        LmdbDataset(tmp_path / "lmdb")


def test_the_split_of_a_record_is_read_in_place():
    for record in (make_record(5), make_record(6)):
        image = np.zeros((90, 80, 3), np.uint8)
        assert stored_as_validation(memoryview(encode_record(image, record, 0, 1))) == record.is_validation
    for foreign in (b"", b"\x08", b"\x08\x04\x10\xff\xff\xff\xff\xff\xff", b"\x0a\x04abcd"):
        assert stored_as_validation(memoryview(foreign)) is None


def test_foreign_records(tmp_path):
    with (
        lmdb.open(str(tmp_path), map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"0000000", b"not a datum at all \xff\xff\xff")
    with pytest.raises(UserError, match="record 0000000"):
        LmdbDataset(tmp_path)


def test_foreign_records_among_good_ones_are_left_out_and_named(images, tmp_path):
    records = [make_record(index) for index in range(6)]
    out = tmp_path / "lmdb"
    write_lmdb(records, files_of(records, images), out)
    with lmdb.open(str(out)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"0000002", b"not a datum at all \xff\xff\xff")
        transaction.put(b"zzz", encode_datum(np.zeros((3, 90, 80), np.uint8)))
    said = (
        "7 people read, 5 used, 2 reported: .*record 0000002: .*; .*record zzz: expected a datum of 4 planes"
    )
    with pytest.warns(DataWarning, match=said):
        dataset = LmdbDataset(out)
    assert len(dataset) == 5
    assert [dataset[index].scale for index in range(5)]


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


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_an_lmdb_that_is_cut_off_is_refused(tmp_path, part):
    """Reading on would end the process with a bus error."""
    whole = golden("cpmdata_lmdb/data.mdb").read_bytes()
    (tmp_path / "data.mdb").write_bytes(whole[: int(part * len(whole))])
    read = "import sys; from cpm_repro.data import open_dataset; open_dataset(sys.argv[1], 'train')"
    done = subprocess.run([sys.executable, "-c", read, str(tmp_path)], capture_output=True, text=True)
    assert f"UserError: {tmp_path}/data.mdb: expected {len(whole)} bytes" in done.stderr.replace("\n", " ")
    assert done.returncode == 1


def test_damaged_pages_are_one_line(tmp_path):
    whole = bytearray(golden("cpmdata_lmdb/data.mdb").read_bytes())
    leaf = whole.rindex(b"0000000") // 4096 * 4096
    whole[leaf + 10 : leaf + 12] = b"\x01\x00"  # flags: says that it is a branch
    (tmp_path / "data.mdb").write_bytes(whole)
    with pytest.raises(UserError, match="damaged: "):
        LmdbDataset(tmp_path)


@pytest.mark.parametrize("compact", [False, True])
def test_damaged_records_are_read_or_refused_in_one_line(compact):
    """``CPM_FUZZ_EXAMPLES`` makes it longer, as for the files of ``tests/trust/test_trust_files.py``."""
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    record = make_record(3, 2)
    picture = cv2.imencode(".png", image)[1].tobytes()
    whole = encode_compact(record, 0) if compact else encode_record(image, record, 0, 1)

    def read(raw: bytes) -> None:
        if compact:
            decode_compact(raw, "key 7", lambda _: picture)
        else:
            decode_record(raw, "key 7")

    read(whole)  # the control
    examples = int(os.environ.get("CPM_FUZZ_EXAMPLES", "100"))

    @settings(max_examples=examples, deadline=2000, database=None, derandomize=examples <= 1000)
    @given(
        st.one_of(st.integers(0, 400), st.integers(0, len(whole))),
        st.one_of(st.binary(max_size=12), st.just(b"[" * 100_000)), st.integers(0, 40),
    )  # fmt: skip
    def run(place: int, junk: bytes, cut: int) -> None:
        with contextlib.suppress(UserError):
            read(whole[:place] + junk + whole[place + cut :])

    run()
    with pytest.raises(UserError, match="key 7"):
        read(whole[:20])
    if compact:
        with pytest.raises(UserError, match="key 7"):
            read(whole[:7] + b"[" * 100_000)


def test_of_a_person_outside_of_the_picture_the_height_stands_for_the_box():
    record = make_record(0)
    record.joint_self[:, :2] = 500
    sample = record_sample(np.zeros((90, 80, 3), np.uint8), record, 14)
    assert (sample.visible == Visibility.CROPPED).all()
    assert sample.extent == pytest.approx(200 * record.scale)
