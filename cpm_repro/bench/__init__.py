"""The benchmark system: checked cases, timed side by side, against limits measured in the same run."""

from cpm_repro.bench.case import BenchmarkWrong, Case, Goal, Question, largest
from cpm_repro.bench.compare import compare_reports
from cpm_repro.bench.documents import update_documents
from cpm_repro.bench.run import run_benchmarks
from cpm_repro.bench.script import main

__all__ = [
    "BenchmarkWrong",
    "Case",
    "Goal",
    "Question",
    "compare_reports",
    "largest",
    "main",
    "run_benchmarks",
    "update_documents",
]
