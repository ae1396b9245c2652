"""What lies at a path: told apart from what nobody may look at."""

import errno
import os
from pathlib import Path

import pytest

from cpm_repro.errors import UserError
from cpm_repro.paths import shown, wanted_file, what_is_at


def test_files_folders_other_things_and_nothing(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path, wanted in (
        ("file", "a file"),
        (".", "a folder"),
        ("pipe", "something that is no ordinary file"),
        ("none", ""),
        ("file/below", ""),
        ("nul\0", ""),
    ):
        assert what_is_at(tmp_path / path) == wanted
    assert wanted_file(tmp_path / "file", "a film") == tmp_path / "file"
    for path, got in ((".", "a folder"), ("none", "nothing there"), ("pipe", "something")):
        with pytest.raises(UserError, match=f"wanted a film, got {got}"):
            wanted_file(tmp_path / path, "a film")


def test_what_nobody_can_tell_is_not_called_nothing(tmp_path, monkeypatch):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UserError, match=r"circle: cannot be read: Too many levels of symbolic links"):
        what_is_at(tmp_path / "circle")
    with pytest.raises(UserError, match=r"x{40}\.\.\.: cannot be read: File name too long"):
        what_is_at("x" * 3000)

    def refusing(_path, **_options):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refusing)  # to root no folder is closed
    with pytest.raises(UserError, match=r"closed/x\.jpg: cannot be read: Permission denied"):
        what_is_at("closed/x.jpg")


def test_only_names_that_nobody_means_are_cut():
    assert shown("x" * 1000) == "x" * 1000
    assert len(shown("x" * 1001)) < 100
