"""Scores: PCK and PCKh by published rules, their intervals and tables."""

from cpm_repro.evaluation.bootstrap import interval, paired_difference
from cpm_repro.evaluation.scores import ScoreTable, auc, evaluate, pck_curve, stage_table

__all__ = ["ScoreTable", "auc", "evaluate", "interval", "paired_difference", "pck_curve", "stage_table"]
