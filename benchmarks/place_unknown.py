"""How well is a person found of whom nothing is said? The estimator's rule beside one place that is assumed.

``python benchmarks/place_unknown.py --data path/to/lspet --every 4 --first 3``: PCK@0.2 of the annotated
person, by the network that ships with the package, on every so-manieth of the held-out people (``--all``: of
everybody).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cpm_repro.data import open_dataset
from cpm_repro.data.sample import PoseSample
from cpm_repro.environment import environment
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.places import WHOLE_IMAGE_SHARE, Place, tried_places, whole_image
from cpm_repro.inference.result import Person
from cpm_repro.skeleton import CPM14, Visibility

THRESHOLD = 0.2
"""Right if within this share of the distance between left shoulder and right hip."""


def _of_height(image_hw: tuple[int, int]) -> list[Place]:
    height, width = image_hw
    return [Place(((width - 1) / 2, (height - 1) / 2), WHOLE_IMAGE_SHARE * height)]


RULES: dict[str, Callable[[tuple[int, int]], list[Place]]] = {
    "middle, 80 % of the longer side": lambda size: [whole_image(size)],
    "middle, 80 % of the height": _of_height,
    "the surest of those tried": tried_places,
}


def right(person: Person, sample: PoseSample) -> list[bool] | None:
    """Which labelled joints are right; None where the normaliser is not labelled."""
    labelled = sample.visible[0] != Visibility.CROPPED
    shoulder, hip = CPM14.parts.index("left_shoulder"), CPM14.parts.index("right_hip")
    if not (labelled[shoulder] and labelled[hip]):
        return None
    norm = np.linalg.norm(sample.joints[0, shoulder] - sample.joints[0, hip])
    distance = np.linalg.norm(person.keypoints - sample.joints[0], axis=1)
    return [bool(value) for value in (distance <= THRESHOLD * norm)[labelled]]


def samples(data: str, first: int, every: int, *, everybody: bool) -> Iterator[PoseSample]:
    """People of the data set whose parts are the network's."""
    for split in ("val", "train") if everybody else ("val",):
        dataset = open_dataset(data, split)
        if dataset.skeleton.parts != CPM14.parts:
            raise SystemExit(f"{data}: wanted the parts {CPM14.parts}, got {dataset.skeleton.parts}")
        for index in range(first, len(dataset), every):
            yield dataset[index]


def run(data: str, first: int, every: int, *, everybody: bool) -> str:
    """A Markdown table of the rules."""
    estimator = PoseEstimator()
    found: dict[str, list[bool]] = {name: [] for name in RULES}
    people = 0
    for sample in samples(data, first, every, everybody=everybody):
        for name, rule in RULES.items():
            places = rule(sample.image.shape[:2])
            tried = estimator(
                sample.image, centers=[place.center for place in places], heights=[p.extent for p in places]
            )
            judged = right(max(tried, key=lambda person: float(person.scores.sum())), sample)
            found[name] += judged or []
        people += judged is not None
    made = environment()
    joints = len(found[next(iter(RULES))])
    head = f"{made['date']}, commit {made['commit']}: {people} people, {joints} joints, PCK@{THRESHOLD}"
    rows = [f"| {name} | {100 * np.mean(values):.1f} |" for name, values in found.items()]
    return "\n".join([head, "", "| what is assumed | % |", "| --- | ---: |", *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args(arguments)
    print(run(options.data, options.first, options.every, everybody=options.all))


if __name__ == "__main__":
    main()
