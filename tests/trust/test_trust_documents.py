"""Every command in the README and docs/ exists; those that need no data are run as they stand there.

A block marked ``sh`` is run, in the order of its document, in a folder that holds the files that the document
shows. ``sh data`` needs data, ``sh slow`` takes minutes: their verbs and options are checked.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpm_repro.caffe.convert import convert
from cpm_repro.cli import command_parser, main
from cpm_repro.inference.weights import bundled_weights

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "sh data", "sh slow", "python", "json"}


def blocks(document: Path) -> list[tuple[str, str]]:
    """(info string, text) of a document's fenced blocks."""
    return BLOCK.findall(document.read_text(encoding="utf-8"))


def commands(text: str) -> list[list[str]]:
    """Words of each line of a block, comments and the environment's folder removed."""
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [[words[0].removeprefix(".venv/bin/"), *words[1:]] for words in lines if words]


def targets() -> set[str]:
    """Targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_ours_and_their_options_exist(document):
    _, verbs = command_parser()
    for info, text in blocks(document):
        assert info in KINDS or "/" in info, f"{document.name}: a block without a kind: {info!r}"
        if not info.startswith("sh"):
            continue
        for program, *words in commands(text):
            assert program in ("cpm", "make", "pip", "python", "bash"), f"{document.name}: {program}"
            if program == "make":
                assert set(words) <= targets()
            if program != "cpm":
                continue
            assert words[0] in verbs, f"{document.name}: cpm {words[0]}"
            parser = verbs[words[0]]
            known = set(parser._option_string_actions)
            for action in parser._actions:
                inner = getattr(action, "choices", None)
                if isinstance(inner, dict) and words[1] in inner:
                    known |= set(inner[words[1]]._option_string_actions)
            assert {word for word in words if word.startswith("--")} <= known, f"{document.name}: {words}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_lead_to_one(document):
    for target, heading in re.findall(r"\]\(([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            text = (document.parent / target if target else document).read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, f"{document.name}: {target}#{heading}"


RUN = [path for path in DOCUMENTS if any(info == "sh" for info, _ in blocks(path))]


def prepare(document: Path) -> None:
    """Write the files that a document shows, and a picture for every one that its tables name."""
    for info, text in blocks(document):
        _, _, name = info.partition(" ")
        if "/" not in name:
            continue
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
        for picture in re.findall(r"^(\w+\.png)", text, re.MULTILINE):
            (Path(name).parent / "images").mkdir(exist_ok=True)
            noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
            cv2.imwrite(str(Path(name).parent / "images" / picture), noise)


@pytest.mark.parametrize("document", RUN, ids=lambda path: path.name)
def test_commands_run_as_they_stand_there(document, tmp_path, monkeypatch):
    """Minutes of training become two updates; nothing else is changed, the data's size for a batch least."""
    monkeypatch.chdir(tmp_path)
    prepare(document)
    for info, text in blocks(document):
        for _, *words in commands(text) if info == "sh" else ():
            if "--minutes" in words:
                place = words.index("--minutes")
                words[place : place + 2] = ["--iterations", "2"]
            assert main(words) == 0, words


PYTHON = [path for path in DOCUMENTS if any(info == "python" for info, _ in blocks(path))]


@pytest.mark.parametrize("document", PYTHON, ids=lambda path: path.name)
def test_python_runs_as_it_stands_there(document, tmp_path, monkeypatch):
    """With weights, a photograph and a clip of the names that the blocks use."""
    monkeypatch.chdir(tmp_path)
    convert(bundled_weights(), Path("runs/mine/checkpoints/best.pt"))
    noise = np.random.default_rng(0).integers(0, 256, (480, 320, 3), dtype=np.uint8)
    cv2.imwrite("photo.jpg", noise)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (96, 64))
    for _ in range(3):
        writer.write(noise[:64, :96])
    writer.release()
    for info, text in blocks(document):
        if info == "python":
            exec(compile(text, document.name, "exec"), {})
