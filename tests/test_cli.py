"""The command line: one line and exit code 2 for every mistake."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpm_repro.cli import main


def run(*arguments: str, capsys) -> tuple[int, str]:
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "unknown verb 'trian'; did you mean train?"),
        (["train", "--presett", "tiny"], "unknown option '--presett'; did you mean --preset?"),
        (["train", "--preset", "tinny"], "unknown preset 'tinny'; did you mean tiny?"),
        (["train", "--arch", "mpii_5stage"], "unknown architecture 'mpii_5stage'; did you mean mpii_6stage?"),
        (
            ["eval", "--predictions", "x.npz", "--threshold", "20"],
            "wanted a share above 0 and up to 1, such as 0.2",
        ),
        (["eval", "--predictions", "x.npz", "--threshold", "nan"], "got nan"),
        (["eval", "--predictions", "x.npz", "--threshold", "x"], "invalid float value: 'x'"),
        (["train", "--minutes", "soon"], "invalid float value: 'soon'"),
        (["train", "--set", "solver.lr"], "--set wants NAME=VALUE"),
        (["train", "--set", "solver.lrr=1"], "unknown setting solver.lrr; did you mean lr?"),
        (["train", "--data", "no/such/folder", "--iterations", "1"], "no/such/folder"),
        (["train", "--iterations", "0"], "iterations must be positive"),
        (["eval", "--weights", "no/such/run"], "no/such/run"),
        (["predict", "--weights", "no/such/run", "x.jpg"], "no/such/run"),
        (["predict", "no/such.jpg"], "no/such.jpg"),
        (
            ["predict", "--format", "json", "x.jpg"],
            "what follows --format and --scales is theirs",
        ),
        (["train", "--iterations", "1", "--device", "cuda:77"], "device cuda:77: cannot be used here"),
        (["eval", "--weights", "w.pt", "--device", "meta"], "device meta: wanted cpu or a GPU"),
        (
            ["eval", "--weights", "w.pt", "--procedure", "release", "--device", "toaster"],
            "toaster: wanted cpu",
        ),
        (["study", "stages", "--device", "cuda:77"], "device cuda:77: cannot be used here"),
        (["data", "check", "no/such/data"], "no/such/data"),
        (["data", "chekc", "x"], "invalid choice: 'chekc'"),
        (["data", "json", "no/such/data", "--out", "x"], "no/such/data"),
        (["data", "lmdb", "no/such.json", "--out", "x", "--comapct"], "did you mean --compact?"),
        (["checklist", "--data", "no/such/data"], "no/such/data"),
        (["proto", "lsp_6stag", "--out", "x"], "did you mean lsp_6stage?"),
        (["convert", "no.caffemodel", "x.safetensors"], "no.caffemodel"),
        (["export", "no/such/run", "x.onnx"], "no/such/run"),
        (["export", "w.pt", "x.tflite"], "*.onnx or *.pt2"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("w.pt").touch()
    code, err = run(*arguments, capsys=capsys)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_importing_the_package_is_cheap():
    """No matplotlib, OpenCV or ONNX behind ``import cpm_repro``."""
    heavy = ("cv2", "matplotlib", "onnx", "scipy", "lmdb", "torch")
    code = f"import sys, cpm_repro; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX breaks them")
def test_a_reader_that_has_read_enough_is_no_traceback():
    """`cpm ... | head`: the pipe's other end is closed before the first line is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cpm_repro", "train", "--explain", "tiny"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_log_on_a_full_disk_is_one_line():
    """`cpm ... > log`."""
    command = [sys.executable, "-m", "cpm_repro", "train", "--explain", "tiny"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "cpm train: error: cannot write: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.skipif(os.name != "posix", reason="closed as a POSIX shell closes them")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_hindrance(closed, tmp_path):
    """As some services start their programs. The first lacked `flush`, the second `isatty`."""
    for words in ("proto tiny --out protos", "data check protos"):
        command = f"{sys.executable} -m cpm_repro {words} {closed}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == (0 if "proto " in words else 2)
        assert "Traceback" not in done.stderr
    assert (tmp_path / "protos" / "pose_deploy.prototxt").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "CLOSED"],
        ["predict", "--weights", "CLOSED", "x.jpg"],
        ["predict", "--detector", "CLOSED", "x.jpg"],
        ["viz", "CLOSED"],
        ["data", "check", "CLOSED"],
        ["data", "show", "CLOSED"],
        ["data", "json", "CLOSED", "--out", "x"],
        ["data", "lmdb", "CLOSED", "--out", "x"],
        ["convert", "CLOSED", "x.caffemodel"],
        ["export", "CLOSED", "x.onnx"],
        ["eval", "--weights", "CLOSED"],
        ["eval", "--predictions", "CLOSED"],
        ["train", "--data", "CLOSED"],
        ["train", "--weights", "CLOSED"],
        ["train", "--solver", "CLOSED"],
        ["checklist", "--weights", "CLOSED"],
        ["study", "stages", "--data", "CLOSED"],
        ["bench", "compare", "CLOSED", "CLOSED"],
    ],
)
def test_what_this_user_may_not_even_ask_for_is_not_called_missing(words, tmp_path, monkeypatch, capsys):
    """A test that is run by root meets no closed folder: the question itself is refused here."""
    closed = str(tmp_path / "closed" / "x.npz")
    stat, open_file = Path.stat, Path.open

    def refusing(question):
        def refused(path, *given, **options):
            if str(path).startswith(closed):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return question(path, *given, **options)

        return refused

    monkeypatch.setattr(Path, "stat", refusing(stat))
    monkeypatch.setattr(Path, "open", refusing(open_file))
    assert main([closed if word == "CLOSED" else word for word in words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"cpm {words[0]}: error: {closed}: cannot be read")
    assert "Permission denied" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("number", "name"), [(errno.EACCES, "closed/x"), (errno.ENAMETOOLONG, "x" * 3000)])
def test_what_this_user_may_not_do_is_one_line_wherever_it_comes_up(number, name, monkeypatch, capsys):
    from cpm_repro import doctor

    def refused():
        raise OSError(number, os.strerror(number), name)

    monkeypatch.setattr(doctor, "doctor", refused)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"cpm doctor: error: {name[:60]}")
    assert said.endswith(f": {os.strerror(number)}\n")
    assert len(said) < 150


@pytest.mark.parametrize("module", ["cpm_repro.cli", "cpm_repro.cli.scores", "torch"])
def test_an_interrupt_of_the_first_imports_is_a_word_and_exit_code_130(module, tmp_path):
    """The command's own take a tenth of a second and torch's seconds: where a mistyped one is stopped."""
    (tmp_path / "x.png").touch()
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from cpm_repro.__main__ import run\n"
        "sys.exit(run())\n"
    )
    command = [sys.executable, "-c", code, "predict", "x.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\ninterrupted\n")


def test_names_that_the_terminal_cannot_show_are_escaped():
    """Of a results' folder or a video; the command ended in a traceback after its work was done."""
    code = (
        "from cpm_repro import cli\n"
        "cli.main = lambda: print('\\u5199 \\udcff.mp4: done')\n"
        "from cpm_repro.__main__ import run\n"
        "run()\n"
    )
    for encoding, words in (("ascii", r"\u5199 \udcff.mp4: done"), ("utf-8", "\u5199 \\udcff.mp4: done")):
        environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, encoding=encoding, check=False
        )
        assert (done.stdout.strip(), done.stderr) == (words, "")


def test_the_installed_command_is_the_one_that_can_be_interrupted():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.scripts]\ncpm = "cpm_repro.__main__:run"\n' in project
