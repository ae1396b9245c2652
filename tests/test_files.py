"""Atomic writing: the old file survives every failure of the new one."""

import json
import os
import resource
import signal
import stat

import pytest

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.files import atomic_write, inside, json_head, parse_json, read_json, write_json


def test_writes_and_makes_folders(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": [1, 2.5, "ü"]})
    assert json.loads((tmp_path / "a" / "b.json").read_text(encoding="utf-8")) == {"x": [1, 2.5, "ü"]}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_a_failing_body_keeps_the_old_file(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path, "w") as file:
            file.write("half of the new")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_get_the_usual_permissions(tmp_path):
    mask = os.umask(0o022)
    try:
        write_json(tmp_path / "x.json", 1)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o644


def test_writing_leaves_the_process_its_mask_at_every_moment(tmp_path, monkeypatch):
    """Set to 0 for a moment it was 0 for the files of all threads; two at once could leave it there."""
    seen = []
    monkeypatch.setattr(os, "umask", lambda mask: seen.append(mask) or 0o022)
    write_json(tmp_path / "x.json", 1)
    assert not seen


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """RLIMIT_FSIZE makes writes fail midway as a full disk does."""
    path = tmp_path / "checkpoint"
    path.write_bytes(b"old")
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old_limit[1]))
    try:
        with (
            pytest.raises(EnvironmentFailure, match=r"cannot write .*checkpoint") as caught,
            atomic_write(path) as file,
        ):
            file.write(b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert caught.value.exit_code == 1
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for path in ("file/x.json", "file/folder/x.json"):
        with pytest.raises(EnvironmentFailure, match=r"cannot write .*/x\.json: .*/file is no folder"):
            write_json(tmp_path / path, 1)


def test_nan_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", float("nan"))
    assert not (tmp_path / "x.json").exists()


def test_a_name_that_is_no_utf8_is_written_escaped_and_read_back(tmp_path):
    name = b"photo\xff.jpg".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "x.json", {"image": name})
    assert read_json(tmp_path / "x.json") == {"image": name}


def test_paths_stay_inside(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_text("x")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    assert inside(tmp_path / "data", "a/b.png") == tmp_path / "data" / "a" / "b.png"
    for path, got in (
        ("../secret.png", "one"), (str(tmp_path / "secret.png"), "one"), ("link.png", "a symbolic link"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"got {got} that leaves it"):
            inside(tmp_path / "data", path)


def test_json_that_is_nested_too_deeply_is_no_json():
    for text in ("[" * 200_000, b'{"a":' * 200_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)
    assert parse_json(b'{"a": [1]}') == {"a": [1]}


@pytest.mark.parametrize("kind", [UserError, EnvironmentFailure])
def test_a_failure_is_one_line_whatever_a_file_makes_it_say(kind):
    assert str(kind("x.csv: got a\nb\r\n\x1b[31mc\u2028d\x9be")) == "x.csv: got a b [31mc d e"
    assert str(kind("résumé.png: \udcff")) == "résumé.png: \udcff"


def test_json_with_a_byte_order_mark_is_json(tmp_path):
    """As editors and spreadsheets on Windows write it."""
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf [1]")
    assert read_json(tmp_path / "x.json") == [1]
    assert json_head(tmp_path / "x.json") == "[1]"
    assert json_head(tmp_path) == ""
