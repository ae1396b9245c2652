"""Verbs that look at the machine: bench, doctor."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cpm_repro.cli.parser import add_verb
from cpm_repro.errors import EnvironmentFailure, UserError


def add_bench(verbs: Any) -> None:
    """``cpm bench``."""
    sub = add_verb(
        verbs,
        "bench",
        "run the benchmarks, each checked before it is timed; compare reports; make the documents' tables",
        "cpm bench --quick --out bench\n  cpm bench belief_maps fuse_multiscale\n"
        "  cpm bench compare old/report.json new/report.json\n  cpm bench readme",
    )
    sub.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run (default: all); or: compare A B; readme"
    )
    sub.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    sub.add_argument(
        "--out", type=Path, default=Path("bench"), help="folder of the report (default: %(default)s)"
    )

    def run(options: argparse.Namespace) -> None:
        from cpm_repro import bench

        if options.names[:1] == ["compare"]:
            if len(options.names) != 3:
                raise UserError("compare wants two reports: cpm bench compare A.json B.json")
            print(bench.compare_reports(*map(Path, options.names[1:])))
            return
        if options.names == ["readme"]:
            changed = bench.update_documents(Path(__file__).parents[2])
            print(f"new tables: {', '.join(changed) or 'none, they were up to date'}")
            return
        report = bench.run_benchmarks(options.out, options.names, quick=options.quick)
        failed = [answer.script for answer in report.answers if answer.failure]
        print(f"written to {options.out}: report.md, report.html, report.json")
        if failed:
            raise EnvironmentFailure(f"failed, see the report: {', '.join(failed)}")

    sub.set_defaults(run=run)


def add_doctor(verbs: Any) -> None:
    """``cpm doctor``."""
    sub = add_verb(
        verbs, "doctor", "say what this machine has and what to do about what is missing", "cpm doctor"
    )

    def run(options: argparse.Namespace) -> None:  # noqa: ARG001
        from cpm_repro.doctor import doctor

        doctor()

    sub.set_defaults(run=run)
