"""The small network that ships with the package: its weights and its card, made from a finished run.

python -m cpm_repro.training.bundle runs/photographs/ours cpm_repro/weights/tiny-lspet.safetensors
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cpm_repro.caffe.convert import convert
from cpm_repro.config import flat, preset, to_dict
from cpm_repro.data import data_name
from cpm_repro.errors import UserError, told_in_one_line
from cpm_repro.files import atomic_write, read_json
from cpm_repro.training.run_folder import RunFolder

LARGEST = 5_000_000
"""Bytes that shipped weights may take."""

TERMS = """\
The photographs are those of Leeds Sports Pose Extended (Johnson and Everingham, Learning Effective Human Pose
Estimation from Inaccurate Annotation, CVPR 2011): pictures that people put on Flickr, collected for research.
No photograph is in this repository, and the licence of this code does not change their owners' rights. Use
the weights to try the program and for research; for anything else ask the data set's owners."""


CARD = """\
# {name}

Weights of one run of `{command}`, its final state.

## Data

{terms}

## Recipe and scores: {title}

{scores}

## Settings

```json
{settings}
```
"""


def bundle(run: Path, target: Path) -> Path:
    """Write the run's final weights to ``target`` (.safetensors) and a card of the same name (.md) beside it.

    The final state is taken, not the best on the way: no state was chosen by the held-out people.

    Returns:
        The card.

    Raises:
        UserError: no finished run, or weights that are too large to ship.
    """
    folder = RunFolder(run)
    report = run / "report.md"
    if target.suffix != ".safetensors" or not report.exists() or not folder.last.exists():
        raise UserError(
            f"{run}: wanted a finished run (report.md, checkpoints/last.pt) and a .safetensors target"
        )
    convert(folder.last, target)
    if target.stat().st_size > LARGEST:
        raise UserError(f"{target}: {target.stat().st_size} bytes, wanted at most {LARGEST}")
    config = read_json(run / "config.json")
    config["data"] = data_name(config["data"])  # a stranger's folders are others
    for name in ("weights", "vgg19"):
        config[name] = config[name] and Path(config[name]).name
    title, _, body = report.read_text(encoding="utf-8").partition("\n")
    text = CARD.format(
        name=target.stem,
        command=_command(config),
        terms=TERMS,
        title=title.strip("# "),
        scores=body.strip(),
        settings=json.dumps(config, indent=2),
    )
    card = target.with_suffix(".md")
    with atomic_write(card, "w") as file:
        file.write(text)
    return card


def _command(config: dict[str, Any]) -> str:
    """What would make the run again, of data and weights in a stranger's folders."""
    minutes, iterations = config["minutes"], config["iterations"]
    budget = f"--minutes {minutes:g}" if minutes is not None else f"--iterations {iterations}"
    begun = f" --weights path/to/{config['weights']}" if config["weights"] else ""
    data = data_name(config["data"], "path/to/")
    begin = f"cpm train --preset {config['name']} --data {data}{begun} {budget}"
    return " ".join([begin, *_set(config)])


def _set(config: dict[str, Any]) -> list[str]:
    """The options that make a run's configuration out of its preset, of how it learns."""
    usual, given = flat(to_dict(preset(config["name"]))), flat(config)
    rooms = ("network.", "augment.", "target.", "solver.", "scheme", "stage_wise_share", "seed")
    return [
        f"--set {name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in given.items()
        if name.startswith(rooms) and value != usual.get(name, value)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=bundle.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    with told_in_one_line("bundle"):
        print(bundle(options.run, options.target))
