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
from cpm_repro.environment import in_one_line
from cpm_repro.errors import told_in_one_line
from cpm_repro.evaluation import evaluate
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.places import WHOLE_IMAGE_SHARE, Place, tried_places, whole_image
from cpm_repro.markdown import table
from cpm_repro.skeleton import CPM14, Visibility


def _of_height(image_hw: tuple[int, int]) -> list[Place]:
    height, width = image_hw
    return [Place(((width - 1) / 2, (height - 1) / 2), WHOLE_IMAGE_SHARE * height)]


RULES: dict[str, Callable[[tuple[int, int]], list[Place]]] = {
    "middle, 80 % of the longer side": lambda size: [whole_image(size)],
    "middle, 80 % of the height": _of_height,
    "the surest of those tried": tried_places,
}


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
    found: dict[str, list[np.ndarray]] = {name: [] for name in RULES}
    truth, labelled = [], []
    for sample in samples(data, first, every, everybody=everybody):
        for name, rule in RULES.items():
            places = rule(sample.image.shape[:2])
            tried = estimator(
                sample.image, centers=[place.center for place in places], heights=[p.extent for p in places]
            )
            found[name].append(max(tried, key=lambda person: float(person.scores.sum())).keypoints)
        truth.append(sample.joints[0])
        labelled.append(sample.visible[0] != Visibility.CROPPED)
    scores = {
        name: evaluate(keypoints, truth, "lspet-pck", labelled=labelled, suspicious=False)
        for name, keypoints in found.items()
    }
    rows = [[name, f"{score.total:.1f}"] for name, score in scores.items()]
    rule_of_all = next(iter(scores.values())).protocol
    return "\n".join([in_one_line(), rule_of_all, "", table(["what is assumed", "%"], rows)])


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
    with told_in_one_line("place_unknown"):
        main()
