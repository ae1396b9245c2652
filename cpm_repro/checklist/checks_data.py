"""How many people the data sets have, counted in their own annotation files."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpm_repro.checklist.context import Context
from cpm_repro.matlab_file import load_matlab_file
from cpm_repro.npz_file import load_npz

_MPII = "data/mpii/mpii_human_pose_v1_u12_1.mat"
_PAIRS = "data/mpii_val_pairs.npz"


def lsp_training_people(context: Context) -> float:
    """LSP-extended and the first half of LSP."""
    extended = load_matlab_file(context.path("data/lspet_full/joints.mat"))["joints"].shape[2]
    return extended + load_matlab_file(context.path("data/lsp/joints.mat"))["joints"].shape[2] // 2


def flic_training_people(context: Context) -> float:
    """FLIC's examples marked istrain."""
    examples = load_matlab_file(context.path("data/flic/examples.mat"))["examples"].ravel()
    return int(sum(np.any(example["istrain"]) for example in examples))


def mpii_training_people(context: Context, drop_whole_images: bool = False) -> float:
    """MPII's annotated training people without the 2958 of validation.

    ``drop_whole_images`` also drops everybody else in an image that has a validation person.
    """
    release = _release(context)
    content = load_npz(context.path(_PAIRS))
    pairs = set(zip(content["image_index"].tolist(), content["person_index"].tolist(), strict=True))
    images = {image for image, _ in pairs}
    count = 0
    for number, (image, is_train) in enumerate(
        zip(release.annolist, release.img_train, strict=True), start=1
    ):
        if not is_train or (drop_whole_images and number in images):
            continue
        for index, person in enumerate(_people(image), start=1):
            count += np.size(getattr(person, "annopoints", ())) > 0 and (number, index) not in pairs
    return count


def mpii_test_people(context: Context) -> float:
    """MPII's test people that stand apart from others ("single person")."""
    release = _release(context)
    tests = [
        np.size(single)
        for single, train in zip(release.single_person, release.img_train, strict=True)
        if not train
    ]
    return int(sum(tests))


def _release(context: Context) -> Any:
    return load_matlab_file(context.path(_MPII), struct_as_record=False, squeeze_me=True)["RELEASE"]


def _people(image: Any) -> list[Any]:
    return list(np.ravel(getattr(image, "annorect", ())))
