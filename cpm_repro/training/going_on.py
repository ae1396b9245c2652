"""How a run is taken up where it was stopped, and what is said when something is not as it was."""

from __future__ import annotations

from pathlib import Path

from cpm_repro.config import schedule_change
from cpm_repro.errors import UserError
from cpm_repro.training.budget import spent
from cpm_repro.training.checkpoint import Checkpoint, Found, load_checkpoint
from cpm_repro.training.gradients import GradientRecorder
from cpm_repro.training.journal import Journal
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.state import RunState


def go_on(state: RunState, found: Found, folder: RunFolder, journal: Journal, *, writes: bool) -> None:
    """Bring ``state`` to what was ``found`` in the run's ``folder``; damaged checkpoints are put aside.

    Args:
        state: of a run that is about to begin.
        found: what it goes on from.
        folder: of the run.
        journal: is told what is not as it was.
        writes: False on the ranks that leave the folder to the first.

    Raises:
        UserError: the state belongs to another optimiser.
    """
    for path, reason in found.damaged.items():
        _put_aside(path, reason, journal, writes=writes)
    for line in _changes(state, found):
        journal.say(line)
    state.restore(found.checkpoint, found.path)
    if not _same_scores(found.checkpoint, state):
        state.best = -1.0
    try:  # a kill between the best state's save and the last one's
        best = load_checkpoint(folder.best) if folder.best.exists() else found.checkpoint
    except UserError as error:
        _put_aside(folder.best, str(error), journal, writes=writes)
    else:
        if best.phase == state.phase and _same_scores(best, state):
            state.best = max(state.best, best.best)


def _same_scores(saved: Checkpoint, state: RunState) -> bool:
    """Whether the score that was ``saved`` is of the people whom ``state`` is scored on."""
    return saved.config.validate_people == state.config.validate_people


def _changes(state: RunState, found: Found) -> list[str]:
    """What a run that goes on from ``found`` does otherwise than without the stop."""
    saved, data = found.checkpoint, state.config.data
    lines = []
    if found.damaged:
        lines.append(f"going on after iteration {saved.iteration}, from {found.path}")
    if (change := schedule_change(saved.config, state.config)) is not None:
        lines.append(f"note: {change}")
    if saved.config.data != data:
        lines.append(f"note: the data were {saved.config.data} and are {data}, taken for the same")
    if not _same_scores(saved, state):
        lines.append("note: scores are of other people than before: the best is looked for anew")
    if saved.people not in (None, state.people):
        lines.append(
            f"note: {data} had {saved.people} people to train on and has {state.people}: the updates to come "
            f"are of others than they would have been"
        )
    return lines


def _put_aside(path: Path, reason: str, journal: Journal, *, writes: bool) -> None:
    """Rename a damaged checkpoint, lest it takes an intact one's place as the previous state."""
    if not writes:
        return
    aside = path.with_suffix(".damaged")
    path.replace(aside)
    journal.say(f"{reason}; put aside as {aside.name}")


def rewind(state: RunState, folder: RunFolder, recorder: GradientRecorder | None) -> tuple[float, int]:
    """Forget the records of updates that are made again; progress and iteration of the last scores.

    Without scores these are 0 and -1.
    """
    folder.rewind(state.iteration)
    if recorder is not None:
        recorder.rewind(state.iteration)
    scored = [record for record in folder.records() if record["kind"] == "validation"]
    if not scored:
        return 0.0, -1
    last: int = scored[-1]["iteration"]
    return spent(state.config, last, scored[-1]["seconds"]), last
