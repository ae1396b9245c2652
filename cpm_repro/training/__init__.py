"""Training: the loop, its recipe, checkpoints and run folders."""

from cpm_repro.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cpm_repro.training.commands import (
    evaluate_weights,
    run_from_config,
    run_from_options,
    train_from_options,
)
from cpm_repro.training.loop import RunResult, train
from cpm_repro.training.losses import stage_losses
from cpm_repro.training.solver_run import SolverResult, train_solver

__all__ = [
    "Checkpoint",
    "RunResult",
    "SolverResult",
    "evaluate_weights",
    "load_checkpoint",
    "run_from_config",
    "run_from_options",
    "save_checkpoint",
    "stage_losses",
    "train",
    "train_from_options",
    "train_solver",
]
