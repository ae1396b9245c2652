"""The faults that the mutation check plants are faults of arithmetic, and each is one change."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutants import Mutant, mutants
from run import ROOT, TARGETS, Outcome, Target, compiles, planted_in

PYTHON = '''
def double(x: int, *, factor: int = 2) -> int:
    """Two times x + 1."""
    if x < 0 and factor:
        raise ValueError(f"x - 1 {x + 1}")
    return max(x * factor, 3)
'''
CPP = """
#define SIZE 3
// a + b
inline float half(const float* x, int n) { return n < 4 && x[0] > 0.5f ? min(x[1], 2.0f) : x[n + 1]; }
"""


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("a.py", PYTHON, {("<", "<="), ("and", "or"), ("0", "1"), ("max", "min"), ("*", "/"), ("3", "4")}),
        (
            "a.h",
            CPP,
            {
                ("<", "<="), ("4", "5"), ("&&", "||"), ("0", "1"), (">", ">="), ("0.5f", "0.75f"),
                ("min", "max"), ("1", "2"), ("2.0f", "3.0f"), ("+", "-"),
            },
        ),
    ],
)  # fmt: skip
def test_every_fault_is_one_change_of_arithmetic(tmp_path, name, text, changes):
    (tmp_path / name).write_text(text)
    made = mutants(tmp_path, Path(name))
    assert {(m.before, m.after) for m in made} == changes
    for mutant in made:
        changed = [(a, b) for a, b in zip(text.splitlines(), mutant.text.splitlines(), strict=True) if a != b]
        assert len(changed) == 1


def test_the_files_that_matter_have_faults_to_plant():
    for target in TARGETS.values():
        for file in target.files:
            assert mutants(ROOT, Path(file)) or "protocols" in file, file
        for tests in target.tests:
            assert (ROOT / tests).exists()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [("a.py", "3 + 4", Outcome.NOT_NOTICED), ("a.py", "3 = 4", Outcome.NOT_COMPILED),
     ("a.py", "1 + 1", Outcome.NOTICED), ("a.py", "sleep(99)", Outcome.TIMED_OUT)],
)  # fmt: skip
def test_what_becomes_of_a_fault(tmp_path, monkeypatch, name, change, said):
    """Only a red test notices: what does not compile and what does not end are counted by themselves."""
    monkeypatch.setattr("run.LONGEST", 10)
    (tmp_path / "test_a.py").write_text("def test_a():\n    from a import x\n    assert x == 7\n")
    (tmp_path / name).write_text("x = 7\n")
    mutant = Mutant(Path(name), 1, "7", change, f"from time import sleep\nx = {change}\n")
    assert planted_in(tmp_path, mutant, Target((name,), ("test_a.py",))) is said
    assert (tmp_path / name).read_text() == "x = 7\n"


def test_a_header_that_does_not_compile_is_told_from_one_that_does(tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler found")
    for text, wanted in (("inline int a() { return 1; }", True), ("inline int a() { return ; + }", False)):
        (tmp_path / "a.h").write_text(text)
        assert compiles(tmp_path, Mutant(Path("a.h"), 1, "", "", text)) is wanted
