"""What no run can work with, said before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cpm_repro.config.settings import (
    PRECISIONS,
    SCHEMES,
    AugmentConfig,
    SolverConfig,
    TrainConfig,
    flat,
    to_dict,
    unknown,
)
from cpm_repro.errors import UserError

_MOST_WORKERS = 256
"""Threads that prepare batches, each with batches of its own: more only fill the memory."""

Rules = Iterator[tuple[bool, str]]
"""What must hold, and the sentence where it does not."""


def check(config: TrainConfig, ranks: int = 1) -> None:
    """Refuse settings that no run of so many ``ranks`` can work with.

    Raises:
        UserError: the first such number or name, with what was wanted.
    """
    for name, value in flat(to_dict(config)).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} must be finite, got {value}")
    for rules in (_solver(config.solver, ranks), _augmentation(config.augment), _run(config)):
        for holds, sentence in rules:
            if not holds:
                raise UserError(sentence)
    for kind, value, known in (
        ("augment.method", config.augment.method, ["box", "exact", "fast", "device"]),
        ("optimizer", config.solver.optimizer, ["adamw", "muon", "caffe_sgd"]),
        ("schedule", config.solver.schedule, ["cosine", "linear", "step"]),
        ("precision", config.solver.precision, list(PRECISIONS)),
        ("initialisation", config.solver.initialisation, ["caffe", "kaiming"]),
        ("scheme", config.scheme, list(SCHEMES)),
    ):
        if value not in known:
            raise UserError(unknown(kind, value, known))


def _solver(solver: SolverConfig, ranks: int) -> Rules:
    batch = solver.batch
    yield batch >= 1, f"batch must be at least 1, got {batch}"
    yield batch >= ranks, f"a batch of {batch} cannot be shared by {ranks} ranks"
    yield (
        1 <= solver.accumulate <= max(1, batch),
        f"accumulate must lie in 1 to batch ({batch}), got {solver.accumulate}",
    )
    yield solver.lr > 0, f"learning rate must be positive, got {solver.lr}"
    yield solver.muon_lr > 0, f"muon_lr must be positive, got {solver.muon_lr}"
    yield solver.weight_decay >= 0, f"weight_decay must not be negative, got {solver.weight_decay}"
    yield 0 <= solver.momentum < 1, f"momentum must lie in [0, 1), got {solver.momentum}"
    yield solver.clip >= 0, f"clip must not be negative (0: no clipping), got {solver.clip}"
    yield 0 < solver.gamma <= 1, f"gamma must lie in (0, 1], got {solver.gamma}"
    yield solver.stepsize > 0, f"stepsize must be positive, got {solver.stepsize}"
    yield 0 < solver.decay_share <= 1, f"decay_share must lie in (0, 1], got {solver.decay_share}"
    yield 0 <= solver.average < 1, f"average must lie in [0, 1), got {solver.average}"
    yield solver.warmup >= 0, f"warmup must not be negative, got {solver.warmup}"


def _augmentation(augment: AugmentConfig) -> Rules:
    yield augment.crop >= 32, f"crop must be at least 32 px, got {augment.crop}"
    yield augment.crop % 8 == 0, f"crop must be a multiple of 8 px, got {augment.crop}"
    yield augment.target_dist > 0, f"target_dist must be positive, got {augment.target_dist}"
    yield 0 <= augment.half_body <= 1, f"half_body must lie in [0, 1], got {augment.half_body}"
    yield 0 <= augment.occlusion <= 1, f"occlusion must lie in [0, 1], got {augment.occlusion}"
    yield 0 <= augment.photometric < 1, f"photometric must lie in [0, 1), got {augment.photometric}"
    yield (
        augment.method != "device" or augment.occlusion == augment.photometric == 0,
        "augment.method=device does not go with occlusion or photometric: use fast",
    )
    yield 0 <= augment.shift < 1, f"shift must lie in [0, 1), got {augment.shift}"
    yield 0 <= augment.flip <= 1, f"flip must lie in [0, 1], got {augment.flip}"
    yield 0 < augment.fill <= 2, f"fill must lie in (0, 2], got {augment.fill}"
    yield (
        0 < augment.scale_min <= augment.scale_max,
        f"scale range must be 0 < min <= max, got {augment.scale_min} to {augment.scale_max}",
    )


def _run(config: TrainConfig) -> Rules:
    target = config.target
    yield (
        target.sigma > 0 and target.stride > 0,
        f"sigma and stride must be positive, got {target.sigma} and {target.stride}",
    )
    yield target.stride == 8, f"stride must be the networks' 8, got {target.stride}"
    yield 0 <= config.seed < 2**31, f"seed must lie in 0 to 2^31 - 1, got {config.seed}"
    for name in ("checkpoint_iterations", "record_gradients", "validate_people", "iterations"):
        number = getattr(config, name)
        yield number is None or number > 0, f"{name} must be positive, got {number}"
    yield (
        config.workers is None or 0 <= config.workers <= _MOST_WORKERS,
        f"workers must lie in 0 to {_MOST_WORKERS}, got {config.workers}",
    )
    yield (
        config.iterations is not None or config.minutes is not None,
        "a training run needs a budget: iterations or minutes",
    )
    yield (
        config.minutes is None or 0 < config.minutes < 1e6,
        f"minutes must be positive and finite, got {config.minutes}",
    )
    every, share = config.validate_every, config.stage_wise_share
    yield 0 < every <= 1, f"validate_every must lie in (0, 1], got {every}"
    yield 0 < share < 1, f"stage_wise_share must lie between 0 and 1, got {share}"
