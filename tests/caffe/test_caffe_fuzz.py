"""Damaged files: whatever bytes come, the parsers answer or raise UserError, quickly and in little memory.

Bounded for ordinary runs; ``CPM_FUZZ_EXAMPLES=20000 pytest tests/caffe/test_caffe_fuzz.py --timeout 0`` is a
long one (12 minutes). ``make test-slow`` runs 3,000 of each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import golden

from cpm_repro.caffe.caffemodel import read_caffemodel
from cpm_repro.caffe.datum import decode_datum, encode_datum
from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.prototxt import format_prototxt, parse_prototxt
from cpm_repro.caffe.solverstate import read_solverstate
from cpm_repro.errors import UserError

EXAMPLES = int(os.environ.get("CPM_FUZZ_EXAMPLES", "60"))
MEMORY = 8 << 20  # bytes; the seeds are 4 kB

quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=EXAMPLES <= 1000,  # the same cases in every ordinary run
    suppress_health_check=list(HealthCheck),
)
BINARY_SEEDS = ("small_iter_3.caffemodel", "small_v1.caffemodel", "small_iter_3.solverstate")
TEXT_SEEDS = ("deploy.prototxt", "deploy_v1.prototxt", "train.prototxt")


def seed(name: str) -> bytes:
    return (golden("caffemodel_sample") / name).read_bytes()


@st.composite
def damaged(draw: st.DrawFn, names: tuple[str, ...]) -> bytes:
    """A golden file with bytes overwritten, inserted, removed or repeated; most often near its structure."""
    raw = bytearray(seed(draw(st.sampled_from(names))))
    for _ in range(draw(st.integers(1, 4))):
        # Structure sits at the start and between the arrays; uniform positions would hit float values only.
        place = draw(
            st.one_of(st.integers(0, 120), st.integers(0, len(raw)), st.integers(len(raw) - 300, len(raw)))
        )
        place = max(0, min(place, len(raw)))
        junk = draw(st.binary(min_size=1, max_size=12))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            raw[place : place + len(junk)] = junk
        elif kind == 1:
            raw[place:place] = junk
        elif kind == 2:
            del raw[place : place + draw(st.integers(1, 400))]
        else:
            raw[place:place] = raw[max(0, place - draw(st.integers(1, 400))) : place]
        raw = raw or bytearray(b"\0")
    return bytes(raw)


def survives(read, raw: bytes) -> None:
    """``read`` returns or raises a one-line UserError, and does not allocate on the bytes' word."""
    message = ""
    tracemalloc.start()
    try:
        read(raw)
    except UserError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY, peak
    assert "\n" not in message
    message.encode()  # printable


def through_file(read):
    def run(raw: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(raw)
            read(file.name)

    return run


@pytest.mark.parametrize("read", [read_caffemodel, read_solverstate])
def test_binary_readers_on_damaged_files(read):
    @quick
    @given(damaged(BINARY_SEEDS))
    def run(raw: bytes) -> None:
        survives(through_file(read), raw)

    run()


@pytest.mark.parametrize("read", [read_caffemodel, read_solverstate])
def test_binary_readers_on_noise(read):
    @quick
    @given(st.binary(min_size=1, max_size=300))
    def run(raw: bytes) -> None:
        survives(through_file(read), raw)

    run()


def test_prototxt_on_damaged_text():
    @quick
    @given(damaged(TEXT_SEEDS))
    def run(raw: bytes) -> None:
        survives(lambda text: parse_prototxt(text.decode("utf-8", "surrogateescape")), raw)

    run()


TOKENS = st.sampled_from(
    [
        "layer",
        "layers",
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        ":",
        ",",
        '"',
        "'",
        "#",
        "\n",
        "name",
        "type",
        "dim",
        "top",
    ]
    + ["1", "-1", "1e999", "0x7f", "MAX", "true", "input", "shape", "\\", "\udc80", "\0", "/*", "inf", "."]
)


def test_prototxt_on_token_soup():
    @quick
    @given(st.lists(TOKENS, max_size=60))
    def run(tokens: list[str]) -> None:
        survives(lambda soup: parse_prototxt(" ".join(soup)), tokens)

    run()


NUMBERS = st.one_of(st.integers(-3, 12), st.sampled_from([1 << 31, 1 << 32, 99999, -(1 << 31)]))


def test_nets_with_damaged_numbers():
    """Numbers of a valid net replaced one by one: CaffeNet builds it or says what is wrong with it."""
    numbers = []
    text = seed("train.prototxt").decode()

    @quick
    @given(st.data())
    def run(data: st.DataObject) -> None:
        words = text.replace("}", " } ").split()
        places = [i for i, word in enumerate(words) if word.lstrip("-").isdigit()]
        for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
            words[place] = str(data.draw(NUMBERS))
        survives(build, " ".join(words))
        numbers.append(1)

    def build(changed: str) -> None:
        net = parse_prototxt(changed)
        assert parse_prototxt(format_prototxt(net)) == net
        if max(layer.convolution_param.num_output for layer in net.layer) < 100_000:  # memory is torch's own
            CaffeNet(net)

    build(text)  # torch loads its shape rules on first use; that memory is not the net's
    run()
    assert numbers


def test_datum_on_damaged_bytes():
    import numpy as np

    raw = encode_datum(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))

    @quick
    @given(st.integers(0, len(raw) - 1), st.binary(min_size=1, max_size=6))
    def run(place: int, junk: bytes) -> None:
        survives(decode_datum, raw[:place] + junk + raw[place + len(junk) :])

    run()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_more_examples():
    """This file again, in a process of its own, with 3,000 new examples for each question."""
    if EXAMPLES > 1000:
        pytest.skip("this is the long run already")
    command = [sys.executable, "-m", "pytest", __file__, "--timeout", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, env=os.environ | {"CPM_FUZZ_EXAMPLES": "3000"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
