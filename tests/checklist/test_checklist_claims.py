"""The claims as data, and how a value is judged against one."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import cpm_repro
from cpm_repro.checklist.claims import Claim, judge, load_claims
from cpm_repro.checklist.run import _checks
from cpm_repro.cli import command_parser


def claim(published, **options) -> Claim:
    return Claim("x", "s", "a statement", published, "a source", check={"do": "stages"}, **options)


@pytest.mark.parametrize(
    ("options", "value", "meets"),
    [
        ({"published": 90.5, "tolerance": 0.01}, 90.51, True),  # 90.51 - 90.5 > 0.01 in binary
        ({"published": 90.5, "tolerance": 0.01}, 90.5101, False),
        ({"published": 90.5, "tolerance": 0.01}, 90.4899, False),
        ({"published": 6}, 6.0, True),
        ({"published": 6}, 5.0, False),
        ({"published": 2e-5, "compare": "at most"}, 1e-6, True),
        ({"published": 2e-5, "compare": "at most"}, 2.1e-5, False),
        ({"published": 10.0, "compare": "at least"}, 10.0, True),
        ({"published": 10.0, "compare": "at least"}, 9.9, False),
        ({"published": [2, 3], "compare": "at most"}, [1.0, 3.0], True),
        ({"published": [2, 3], "compare": "at most"}, [1.0, 3.1], False),
        ({"published": [2, 3], "compare": "at least"}, [2.0, 4.0], True),
        ({"published": [2, 3], "compare": "at least"}, [1.9, 4.0], False),
        ({"published": [9, 26]}, [9.0, 26.0], True),
        ({"published": [9, 26]}, [9.0, 27.0], False),
        ({"published": [9, 26]}, [9.0], False),
        ({"published": "step"}, "step", True),
        ({"published": "holds"}, "does not hold", False),
        ({"published": ["a", "b"]}, ["a", "b"], True),
        ({"published": ["a", "b"]}, ["b", "a"], False),
        ({"published": 1.0}, float("nan"), False),
        ({"published": 1.0, "compare": "at most"}, float("nan"), False),
    ],
)
def test_a_value_is_judged(options, value, meets):
    assert judge(claim(**options), value)[0] is meets


def test_the_difference_is_named():
    assert judge(claim(90.5, unit="%"), 89.25)[1] == "-1.25 %"
    assert judge(claim([9, 26]), [9.0, 29.0])[1] == "+3"
    assert judge(claim(6), 6.0)[1] == ""


def test_claims_that_could_never_be_shown_are_refused():
    with pytest.raises(ValueError, match="wanted a check"):
        Claim("x", "s", "t", 1.0, "src")
    with pytest.raises(ValueError, match="compare"):
        claim(1.0, compare="about")


def test_an_entry_with_lines_is_a_claim_for_each():
    rows = {entry.id: entry for entry in load_claims() if entry.id.startswith("scores.lsp.")}
    wrist = rows["scores.lsp.wri"]
    assert (wrist.published, wrist.check["row"]) == (83.9, "Wri")
    assert wrist.statement.endswith("PCK@0.2: Wri")
    assert not any("{" in text for e in load_claims() for text in (e.id, e.statement, e.command, *e.needs))


def test_every_check_that_claims_name_exists_and_takes_their_arguments():
    checks = _checks()
    for entry in load_claims():
        if entry.check:
            arguments = dict(entry.check)
            inspect.signature(checks[arguments.pop("do")]).bind(None, **arguments)
    used = {entry.check["do"] for entry in load_claims() if entry.check}
    assert set(checks) == used, "a check that no claim uses"


def test_every_claim_says_where_it_comes_from_and_what_to_run():
    root = Path(cpm_repro.__file__).parent
    for entry in load_claims():
        assert entry.statement
        assert entry.source
        assert "cpm " in entry.command, entry.id
        assert re.fullmatch(r"[a-z0-9_.]+", entry.id), "ids are file names"
        for name in entry.depends:
            assert (root / name).exists() or name in ("studies",), f"{entry.id} depends on {name}"


@pytest.mark.parametrize(
    ("number", "count"),
    [
        # Each number that the paper has, and how many claims carry it at least
        (87.95, 1), (88.52, 1), (97.8, 2), (95.0, 1), (88.7, 1), (84.0, 1), (88.4, 1), (82.8, 1), (79.4, 1),
        (61.4, 1), (90.1, 1), (78.28, 1),
        (10.76, 1), (6.11, 1), (84.32, 1), (90.5, 2), (97.59, 2), (95.03, 2),
        (14.8, 1),
        (12.7, 1), (8.9, 1), (9.3, 1), (42.4, 1), (30.9, 1), (160, 2),
        (400, 2), (31, 1), (63, 1), (76, 1),
    ],
)  # fmt: skip
def test_the_papers_numbers_are_all_there(number, count):
    def holds(published):
        return number in published if isinstance(published, list) else published == number

    assert sum(holds(entry.published) for entry in load_claims()) >= count


def test_every_command_that_claims_name_is_one_of_ours():
    """Verbs and options of the commands exist; nothing is run."""
    _, verbs = command_parser()
    for item in load_claims():
        for part in item.command.split("; ") if item.command else ():
            found = re.match(r"cpm ([a-z]+)", part)
            assert found, f"{item.id}: {part!r}"
            assert found[1] in verbs, item.id
            options = set(re.findall(r"--[a-z][a-z-]*", part))
            assert options <= set(verbs[found[1]]._option_string_actions), f"{item.id}: {part!r}"


def test_sources_are_what_a_reader_can_look_up():
    """The paper, the release, its authors: no page that only those who wrote the claims have."""
    assert not [item.id for item in load_claims() if re.search(r"spec|\.md", item.source)]


def test_the_documents_count_the_claims_that_there_are():
    """The README's numbers are those of the newest list, which has every claim."""
    root = Path(__file__).parents[2]
    report = max((root / "benchmarks" / "results").glob("*-checklist.md"))
    text = report.read_text(encoding="utf-8")
    found = re.search(r"\*\*(\d+) claims: (\d+) reproduced, (\d+) differs, (\d+) not run\.\*\*", text)
    assert found
    claims, *counts = map(int, found.groups())
    assert claims == sum(counts) == len(load_claims())
    for word, count in zip(("reproduced", "differs", "not run"), counts, strict=True):
        rows = text.partition("\n## ")[2]
        assert len(re.findall(rf"\| {word}(?:[ :][^|]*)?\|$", rows, re.MULTILINE)) == count
    readme = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    assert counts[1] == 1
    assert (
        f"Of {claims} claims of the paper and the release {counts[0]} are reproduced, one differs" in readme
    )
    assert f"and {counts[2]} were not run" in readme
    assert f"results/{report.name}" in readme


def test_scores_of_mpiis_server_come_from_the_file_that_it_takes():
    """``cpm predict`` writes no RELEASE struct, and looks for people whose places the test set gives."""
    asked = [item for item in load_claims() if any("test server" in need for need in item.needs)]
    measured = [item for item in asked if any(need.endswith(".caffemodel") for need in item.needs)]
    assert len(measured) == 12
    for item in measured:
        assert "--procedure release --split test --out submission" in item.command, item.id
        assert "submission/mpii_release.mat" in item.command
