"""Writing LMDBs: whole, killed, on a full disk, and what is there already."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import cv2
import numpy as np
import pytest
from record_fakes import files_of, make_record, raw_values

from cpm_repro.caffe.datum import decode_datum
from cpm_repro.cli import main
from cpm_repro.data.lmdb_plan import PLAN
from cpm_repro.data.lmdb_store import LmdbDataset
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import (
    read_records,
    rounded,
    write_records,
)
from cpm_repro.errors import UserError
from cpm_repro.skeleton import MPII_TO_CPM14, Visibility

pytest.importorskip("lmdb", reason="the lmdb package is not installed")


def test_1000_people_go_through_an_lmdb(images, tmp_path):
    records = [make_record(index, index % 3) for index in range(1000)]
    files = files_of(records, images)
    out = tmp_path / "lmdb"
    assert write_lmdb(records, files, out, seed=4) == 1000
    values = raw_values(out)
    assert sorted(values) == [b"%07d" % place for place in range(1000)]
    for place in (0, 7, 999):  # the annotation plane says where it stands, of how many
        planes = decode_datum(values[b"%07d" % place], "x").planes
        assert planes is not None
        assert np.frombuffer(planes[3, 2].tobytes(), "<f4", 2, 7).tolist() == [place, 1000]
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


@pytest.mark.parametrize("compact", [False, True])
def test_the_grey_beside_a_narrow_image_is_not_the_image(tmp_path, compact):
    """A joint lies outside beyond the image's own width of 50 px, not beyond the 64 that are stored."""
    cv2.imwrite(str(tmp_path / "narrow.png"), np.zeros((90, 50, 3), np.uint8))
    joints = np.ones((16, 3))
    joints[:, 0] = np.linspace(49, 56.5, 16)  # 1-based: 51 is the first pixel outside
    record = replace(make_record(0, width=50), img_path="narrow.png", joint_self=joints)
    write_lmdb([record], [tmp_path / "narrow.png"], tmp_path / "lmdb", compact=compact)
    sample = LmdbDataset(tmp_path / "lmdb")[0]
    assert sample.image.shape == (90, 64, 3)
    assert (sample.image[:, 50:] == 128).all()
    assert np.array_equal(sample.visible[0] == Visibility.CROPPED, joints[list(MPII_TO_CPM14), 0] >= 51)


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
