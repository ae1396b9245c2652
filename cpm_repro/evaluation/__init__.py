"""Scores: PCK, PCKh, curves, intervals and tables. Array work in numpy; no framework is needed to score."""

from cpm_repro.evaluation.bootstrap import Interval, PairedDifference, bootstrap_interval, paired_bootstrap
from cpm_repro.evaluation.curves import PckCurve, auc, pck_curve
from cpm_repro.evaluation.evaluate import evaluate, observer_centric
from cpm_repro.evaluation.failures import Failure, failures
from cpm_repro.evaluation.prediction_files import PredictionFile, read_predictions
from cpm_repro.evaluation.protocols import PROTOCOLS, Protocol
from cpm_repro.evaluation.scored_file import ScoredFile, score_file
from cpm_repro.evaluation.suspicion import ScoreWarning
from cpm_repro.evaluation.table import ScoreTable, stage_table
from cpm_repro.evaluation.truth_files import TruthFile, read_truth

__all__ = [
    "PROTOCOLS",
    "Failure",
    "Interval",
    "PairedDifference",
    "PckCurve",
    "PredictionFile",
    "Protocol",
    "ScoreTable",
    "ScoreWarning",
    "ScoredFile",
    "TruthFile",
    "auc",
    "bootstrap_interval",
    "evaluate",
    "failures",
    "observer_centric",
    "paired_bootstrap",
    "pck_curve",
    "read_predictions",
    "read_truth",
    "score_file",
    "stage_table",
]
