"""The documents' tables: they are what the reports say, the newest of each machine and benchmark."""

import dataclasses
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from cpm_repro.bench.documents import (
    BEGIN,
    END,
    goals_table,
    kernels_table,
    readme_table,
    rows_under,
    update_block,
    update_documents,
)
from cpm_repro.bench.record import Answer, BenchReport, Measured
from cpm_repro.bench.text import GOALS_HEAD, report_markdown
from cpm_repro.errors import UserError

ROOT = Path(__file__).parents[2]


def made(date="2026-01-02", slower=3.0, device="A", gpu="", title="Toy") -> BenchReport:
    """One case with a goal that is reached and one that is not."""
    samples = {"ours": [1.0, 1.1, 0.9], "peer": [slower * t for t in (1.0, 1.1, 0.9)]}
    case = Measured("N=1", 0.0, 1.0, samples, limit_seconds=0.25, goals=[("peer", 2.0), ("limit", 0.5)])
    versions = {"gpu": gpu} if gpu else {}
    return BenchReport(date, "abc", device, 2, versions, False, [Answer("toy", title, "", [case])])


def write(folder: Path, name: str, report: BenchReport) -> None:
    (folder / name).write_text(report_markdown(report))


@pytest.mark.parametrize(
    ("document", "table"),
    [("README.md", readme_table), ("docs/benchmarks.md", goals_table), ("docs/kernels.md", kernels_table)],
)
def test_the_documents_are_up_to_date(document, table):
    text = (ROOT / document).read_text(encoding="utf-8")
    block = text[text.index(BEGIN) + len(BEGIN) + 1 : text.index(END)]
    assert block == table(ROOT / "benchmarks" / "results"), "run: cpm bench readme"


def test_every_goal_of_a_report_is_found(tmp_path):
    report = made()
    write(tmp_path, "2026-01-02-toy.md", report)
    (tmp_path / "2026-01-03-other.md").write_text("# A training run\n\n| case | goal |\n")
    rows = rows_under(GOALS_HEAD, tmp_path)
    assert [(row.machine, row.date, row.benchmark) for row in rows] == [
        ("A, 2 threads", "2026-01-02", "Toy")
    ] * 2
    first, second = (row.cells for row in rows)
    assert first == ("N=1", "peer takes at least 2 times as long", "3.00 (3.00 to 3.00)", "reached")
    assert (second[0], second[-1]) == ("N=1", "missed")
    assert "limit" in second[1]


def test_the_newest_of_each_machine_and_benchmark(tmp_path):
    write(tmp_path, "2026-01-02-toy.md", made())
    write(tmp_path, "2026-02-01-toy.md", made("2026-02-01", slower=4.0))
    write(tmp_path, "2026-01-01-other.md", made("2026-01-01", title="Other", slower=5.0))
    table = goals_table(tmp_path)
    assert "4.00" in table
    assert "5.00" in table
    assert "3.00" not in table
    assert "[2026-02-01](../benchmarks/results/2026-02-01-toy.md)" in table
    assert table.endswith("GPU: not measured.\n")
    write(tmp_path, "2026-01-04-gpu.md", made("2026-01-04", slower=6.0, device="G", gpu="G"))
    table = goals_table(tmp_path)
    assert "\nG:\n" in table
    assert "not measured" not in table


def test_the_readme_counts_and_says_what_was_missed(tmp_path):
    write(tmp_path, "2026-01-02-toy.md", made())
    write(tmp_path, "2026-01-03-other.md", made("2026-01-03", title="Other", slower=1.5))
    lines = readme_table(tmp_path).splitlines()
    limit = "N=1: at least 50 % of the limit's rate, measured 25 % (24 to 26)"
    peer = "N=1: peer takes at least 2 times as long, measured 1.50 (1.50 to 1.50)"
    toy, other = (f"benchmarks/results/2026-01-0{name}.md" for name in ("2-toy", "3-other"))
    assert lines[4:6] == [
        f"| Toy | 1 of 2 | {limit} | [2026-01-02]({toy}) |",
        f"| Other | 0 of 2 | {peer}; {limit} | [2026-01-03]({other}) |",
    ]


def test_a_failed_benchmark_has_no_row(tmp_path):
    report = made()
    report.answers[0] = dataclasses.replace(report.answers[0], failure="the result differs")
    write(tmp_path, "2026-01-02-toy.md", report)
    assert rows_under(GOALS_HEAD, tmp_path) == []


def test_times_of_the_kernels_alone(tmp_path):
    write(tmp_path, "2026-01-02-toy.md", made())
    assert kernels_table(tmp_path) == "GPU: not measured.\n"
    write(tmp_path, "2026-01-02-maps.md", made(title="Belief maps"))
    lines = kernels_table(tmp_path).splitlines()
    link = "[2026-01-02](../benchmarks/results/2026-01-02-maps.md)"
    assert lines[0] == "A, 2 threads:"
    assert lines[4] == f"| Belief maps | N=1 | ours | 1 s | 950 ms to 1.05 s | 1 | 25 % | {link} |"
    assert [line.split(" | ")[2] for line in lines[4:-2]] == ["ours", "peer", "*predicted*"]


def test_only_the_block_is_written(tmp_path):
    document = tmp_path / "README.md"
    document.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    assert update_block(document, "table\n")
    assert document.read_text() == f"above\n{BEGIN}\ntable\n{END}\nbelow\n"
    assert not update_block(document, "table\n")
    document.write_text("no marks")
    with pytest.raises(UserError, match="wanted the lines"):
        update_block(document, "table\n")
    with pytest.raises(UserError, match="cannot be read"):
        update_block(tmp_path / "none.md", "table\n")


def test_documents_that_changed_are_named(tmp_path):
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/benchmarks.md", "docs/kernels.md"):
        (tmp_path / name).write_text(f"{BEGIN}\n{END}\n")
    write(tmp_path / "benchmarks" / "results", "2026-01-02-toy.md", made())
    assert update_documents(tmp_path) == ["README.md", "docs/benchmarks.md", "docs/kernels.md"]
    (tmp_path / "docs/kernels.md").write_text(f"{BEGIN}\n{END}\n")
    assert update_documents(tmp_path) == ["docs/kernels.md"]


def test_without_reports_as_in_an_installed_package_no_document_is_looked_for(tmp_path):
    with pytest.raises(UserError, match="the reports are not installed with the package"):
        update_documents(tmp_path)


def test_every_report_is_linked_from_a_document():
    """A report that nobody finds is clutter; what a later run replaced is in the history."""
    results = ROOT / "benchmarks" / "results"
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *results.glob("*.md")]
    linked = {
        (document.parent / target).resolve()
        for document in documents
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    }
    assert not [path.name for path in results.iterdir() if path not in linked]


def test_reports_name_commits_of_this_history():
    """A stranger makes a number again from the commit that its report names."""
    said = {}
    for report in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        for commit in re.findall(r"\bcommit (?:\| )?([0-9a-f]{7,40})\b", report.read_text(encoding="utf-8")):
            said.setdefault(commit, report.name)
    assert len(said) > 10
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    whole = ["git", "rev-parse", "--is-shallow-repository"]
    if shutil.which("git") is None or git(whole).stdout.strip() != "false":
        pytest.skip("no repository with its whole history")
    unknown = [
        f"{report}: {commit}"
        for commit, report in said.items()
        if git(["git", "merge-base", "--is-ancestor", commit, "HEAD"]).returncode != 0
    ]
    assert not unknown


def test_a_quick_run_s_numbers_are_not_published(tmp_path):
    write(tmp_path, "2026-01-02-toy.md", dataclasses.replace(made(), quick=True))
    with pytest.raises(UserError, match=r"2026-01-02-toy\.md: a quick run's numbers mean nothing"):
        readme_table(tmp_path)
