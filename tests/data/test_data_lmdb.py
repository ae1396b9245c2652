from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import golden

from cpm_repro.caffe.datum import encode_datum
from cpm_repro.cli import main
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.compact_record import decode_compact, encode_compact
from cpm_repro.data.datum_record import decode_record, encode_record, stored_as_validation
from cpm_repro.data.lmdb_plan import PLAN
from cpm_repro.data.lmdb_store import LmdbDataset, record_sample
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import (
    format_record,
    read_records,
    rounded,
    write_records,
)
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Visibility

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
        people_index=1 + index // 7 % 255,
    )


def assert_same(a: list[PersonRecord], b: list[PersonRecord], tolerance: float) -> None:
    for one, other in zip(a, b, strict=True):
        for field in dataclasses.fields(PersonRecord):
            value, wanted = getattr(one, field.name), getattr(other, field.name)
            if isinstance(wanted, np.ndarray):
                np.testing.assert_allclose(value, wanted, atol=tolerance, rtol=0, err_msg=field.name)
            else:
                assert value == (pytest.approx(wanted, abs=tolerance) if field.name == "scale" else wanted)


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


def files_of(records, images):
    return [images / record.img_path for record in records]


def test_1000_people_go_through_an_lmdb(images, tmp_path):
    records = [make_record(index, index % 3) for index in range(1000)]
    files = files_of(records, images)
    out = tmp_path / "lmdb"
    assert write_lmdb(records, files, out, seed=4) == 1000
    assert sorted(raw_values(out)) == [b"%07d" % place for place in range(1000)]
    assert write_lmdb(records, files, out, seed=4) == 0
    assert_holds(LmdbDataset(out), records)
    train, val = LmdbDataset(out, "train"), LmdbDataset(out, "val")
    assert (len(train), len(val)) == (800, 200)


def assert_holds(dataset: LmdbDataset, records: list[PersonRecord]) -> None:
    """Every record once, in another order."""
    stored = [dataset.record(index)[1] for index in range(len(dataset))]
    order = [record.annolist_index for record in stored]
    assert sorted(order) == [record.annolist_index for record in records]
    assert order != sorted(order)
    for record in stored:
        wanted = records[record.annolist_index - 1]
        assert np.allclose(record.joint_self, wanted.joint_self, atol=1e-5)
        assert np.allclose(record.joint_others, wanted.joint_others, atol=1e-5)
        assert record.is_validation == wanted.is_validation


@pytest.mark.parametrize("compact", [False, True])
def test_1000_people_killed_halfway_leave_neither_holes_nor_duplicates(images, tmp_path, compact, capsys):
    out = tmp_path / "lmdb"
    records = [make_record(index, index % 3) for index in range(1000)]
    write_records(tmp_path / "x.json", records)
    command = [sys.executable, "-m", "cpm_repro", "data", "lmdb", str(tmp_path / "x.json"), "--out", str(out)]
    command += ["--images", str(images), *(["--compact"] if compact else [])]
    # The interpreter is killed by itself at an uneven place: between two records of a transaction.
    with_kill = textwrap.dedent("""
        import os, runpy, signal, sys
        from cpm_repro.data import lmdb_write
        real, count = lmdb_write.{name}, [0]
        def counting(*arguments):
            count[0] += 1
            if count[0] == {last}:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        lmdb_write.{name} = counting
        sys.argv[1:] = {arguments}
        runpy.run_module("cpm_repro", run_name="__main__")
    """).format(last=507, name="encode_compact" if compact else "encode_record", arguments=command[3:])
    killed = subprocess.run([sys.executable, "-c", with_kill], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    begun = sum(key.isdigit() for key in raw_values(out))
    assert begun == 400
    with pytest.raises(UserError, match=r"holds 400 of 1000 records.*cut off"):
        LmdbDataset(out)
    assert main(command[3:]) == 0
    said = capsys.readouterr().out
    assert "1000 people of 7 images" in said
    assert "400 of them from an earlier call" in said
    whole = tmp_path / "whole"
    write_lmdb(read_records(tmp_path / "x.json"), files_of(records, images), whole, compact=compact)
    assert raw_values(out) == raw_values(whole)
    assert_holds(LmdbDataset(out), records)


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"records": "5"}'])
def test_a_damaged_note_of_the_conversion_is_one_line(images, tmp_path, note):
    records = [make_record(index) for index in range(5)]
    write_lmdb(records, files_of(records, images), tmp_path / "lmdb")
    assert len(LmdbDataset(tmp_path / "lmdb")) == 5
    (tmp_path / "lmdb" / PLAN).write_text(note)
    with pytest.raises(UserError, match=PLAN):
        LmdbDataset(tmp_path / "lmdb")
    with pytest.raises(UserError, match=r"lmdb"):
        write_lmdb(records, files_of(records, images), tmp_path / "lmdb")


def test_other_records_another_layout_or_seed_are_refused(images, tmp_path):
    records = [make_record(index) for index in range(5)]
    files = files_of(records, images)
    write_lmdb(records, files, tmp_path / "lmdb")
    for other, options in ((records, {"seed": 1}), (records[:4], {}), (records, {"compact": True})):
        with pytest.raises(UserError, match="other records, another layout or seed"):
            write_lmdb(other, files, tmp_path / "lmdb", **options)


def test_the_compact_layout_gives_the_same_samples_in_a_fraction_of_the_space(images, tmp_path):
    records = [rounded(make_record(index, index % 4)) for index in range(60)]
    files = files_of(records, images)
    for compact in (False, True):
        write_lmdb(records, files, tmp_path / str(compact), compact=compact)
    assert sum(key.startswith(b"i") for key in raw_values(tmp_path / "True")) == 7
    release, compact = LmdbDataset(tmp_path / "False"), LmdbDataset(tmp_path / "True")
    for index in range(60):
        a, b = release[index], compact[index]
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.joints, b.joints)
        assert np.array_equal(a.visible, b.visible)
        assert np.array_equal(a.center, b.center)
        assert a.scale == pytest.approx(b.scale, rel=1e-7)
    assert [len(LmdbDataset(tmp_path / "True", split)) for split in ("train", "val")] == [48, 12]


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


def test_json_round_trip(tmp_path):
    records = [make_record(index, index % 4) for index in range(12)]
    assert write_records(tmp_path / "MPI_annotations.json", records) == 12
    assert_same(read_records(tmp_path / "MPI_annotations.json"), records, 1e-9)


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


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_a_disk_that_fills_up_is_one_line_and_the_next_run_completes(images, tmp_path, limit):
    """RLIMIT_FSIZE makes a write fail midway as a full disk does."""
    records = [make_record(index, index % 3) for index in range(40)]
    write_records(tmp_path / "x.json", records)
    words = [
        "data",
        "lmdb",
        str(tmp_path / "x.json"),
        "--out",
        str(tmp_path / "out"),
        "--images",
        str(images),
    ]
    limited = textwrap.dedent(f"""
        import resource, signal, sys
        from cpm_repro.cli import main
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
        sys.exit(main({words!r}))
    """)
    # A measurement of coverage writes files too, which must not hit the limit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", limited]
    failed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert failed.returncode in (1, 2), failed
    assert "Traceback" not in failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if "error" in line]
    assert str(tmp_path / "out") in line
    assert main(words) == 0
    whole = tmp_path / "whole"
    assert main([*words[:4], str(whole), *words[5:]]) == 0
    assert raw_values(tmp_path / "out") == raw_values(whole)


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
