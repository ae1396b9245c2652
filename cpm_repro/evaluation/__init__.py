"""Scores: PCK, PCKh, curves, intervals and tables. Array work in numpy; no framework is needed to score."""

from cpm_repro.evaluation.bootstrap import Interval, PairedDifference, bootstrap_interval, paired_bootstrap
from cpm_repro.evaluation.curves import PckCurve, auc, pck_curve
from cpm_repro.evaluation.evaluate import evaluate, observer_centric
from cpm_repro.evaluation.protocols import PROTOCOLS, Protocol
from cpm_repro.evaluation.suspicion import ScoreWarning
from cpm_repro.evaluation.table import ScoreTable, stage_table

__all__ = [
    "PROTOCOLS",
    "Interval",
    "PairedDifference",
    "PckCurve",
    "Protocol",
    "ScoreTable",
    "ScoreWarning",
    "auc",
    "bootstrap_interval",
    "evaluate",
    "observer_centric",
    "paired_bootstrap",
    "pck_curve",
    "stage_table",
]
