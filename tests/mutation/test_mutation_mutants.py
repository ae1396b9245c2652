"""The faults that the mutation check plants are faults of arithmetic, and each is one change."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutants import mutants

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
    from run import ROOT, TARGETS

    for target in TARGETS.values():
        for file in target.files:
            assert mutants(ROOT, Path(file)) or "protocols" in file, file
        for tests in (*target.tests, *target.rebuild):
            assert (ROOT / tests).exists()
