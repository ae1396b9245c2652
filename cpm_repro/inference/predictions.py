"""Predictions of a whole data set, and their files: .npz, .json, and .mat as the release writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpm_repro.data.mpii_test import write_mpii_release
from cpm_repro.evaluation.part_names import skeleton_arrays
from cpm_repro.files import atomic_write, write_json
from cpm_repro.inference.subjects import Subjects, Truth
from cpm_repro.skeleton import MPII16, permutation


@dataclass(frozen=True, eq=False)
class Predictions:
    """N people, K parts in the network's order; pixels, 0-based."""

    people: tuple[Truth, ...]
    keypoints: np.ndarray  # (N, K, 2) float64; NaN where nobody could be estimated
    scores: np.ndarray  # (N, K) float32

    @classmethod
    def collect(cls, subjects: Subjects, count: int, entries: Mapping[int, Mapping[str, Any]]) -> Predictions:
        """From entries by index, each with ``keypoints`` (K, 2) and ``scores`` (K,)."""
        parts = len(subjects.skeleton)
        keypoints, scores = np.full((count, parts, 2), np.nan), np.full((count, parts), np.nan, np.float32)
        for index, entry in entries.items():
            keypoints[index], scores[index] = entry["keypoints"], entry["scores"]
        return cls(tuple(subjects.truth(index) for index in range(count)), keypoints, scores)

    @property
    def truth(self) -> np.ndarray | None:
        """(N, K, 2) annotated positions; None where they are secret."""
        joints = [person.joints for person in self.people if person.joints is not None]
        return np.stack(joints) if len(joints) == len(self.people) else None

    @property
    def labelled(self) -> np.ndarray | None:
        """(N, K) bool; None where positions are secret."""
        flags = [person.labelled for person in self.people if person.labelled is not None]
        return np.stack(flags) if len(flags) == len(self.people) else None

    @property
    def extent(self) -> np.ndarray:
        """(N,) longer sides of the people's boxes, px; see `Truth`."""
        return np.array([person.extent for person in self.people])

    @property
    def head_size(self) -> np.ndarray:
        """(N,) px, NaN where unknown."""
        return np.array([person.head_size for person in self.people])

    @property
    def torso_box_wh(self) -> np.ndarray | None:
        """(N, 2) px; None where the data set has no torso boxes."""
        boxes = [person.torso_box_wh for person in self.people if person.torso_box_wh is not None]
        return np.array(boxes) if boxes and len(boxes) == len(self.people) else None


def write_predictions(predictions: Predictions, subjects: Subjects, about: dict[str, Any], out: Path) -> None:
    """Write ``predictions.npz``, ``.mat`` and ``.json`` into ``out``, and MPII's file where it goes back.

    The .mat has ``prediction_all`` (K, 2, N) in the data set's order, 1-based, as the release's files.

    Raises:
        EnvironmentFailure: ``out`` cannot be written.
    """
    import scipy.io

    with atomic_write(out / "predictions.npz") as file:
        np.savez_compressed(file, **_arrays(predictions, subjects))  # type: ignore[arg-type]
    order = list(permutation(subjects.skeleton.parts, subjects.file_parts))
    stored = predictions.keypoints[:, order]
    with atomic_write(out / "predictions.mat") as file:
        scipy.io.savemat(file, {"prediction_all": stored.transpose(1, 2, 0) + 1.0}, do_compression=True)
    write_json(out / "predictions.json", _listed(predictions, subjects, about))
    if subjects.release_file is not None:
        ids = [MPII16.index(part) for part in subjects.file_parts]
        found = {
            person.number: xy
            for person, xy in zip(predictions.people, stored, strict=True)
            if np.isfinite(xy).all()
        }
        write_mpii_release(subjects.release_file, out / "mpii_release.mat", found, ids)


def _arrays(predictions: Predictions, subjects: Subjects) -> dict[str, np.ndarray]:
    """What ``cpm eval --predictions`` reads again."""
    arrays = {
        "pred": predictions.keypoints,
        "scores": predictions.scores,
        **skeleton_arrays(subjects.skeleton, predictions.extent),
        "image": np.array([person.id for person in predictions.people]),
        "gt": predictions.truth,
        "labelled": predictions.labelled,
        "torso_box_wh": predictions.torso_box_wh,
        "head_size": predictions.head_size if np.isfinite(predictions.head_size).any() else None,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def _listed(predictions: Predictions, subjects: Subjects, about: dict[str, Any]) -> dict[str, Any]:
    """JSON-ready: every person with the image and [x, y, score] per part, null where there is none."""
    people = []
    for person, xy, scores in zip(predictions.people, predictions.keypoints, predictions.scores, strict=True):
        found = bool(np.isfinite(xy).all())
        joints = [[*map(float, point), round(float(s), 5)] for point, s in zip(xy, scores, strict=True)]
        people.append({"id": person.id, "image": person.image, "keypoints": joints if found else None})
    return {
        **about,
        "coordinates": "pixels, 0-based, x right, y down; x, y, score per part",
        "parts": list(subjects.skeleton.parts),
        "people": people,
    }
