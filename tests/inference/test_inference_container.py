"""Videos whose containers state too many frames, a clock's rate, or hold damage, and how they are drawn."""

import subprocess
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest
from videos import frame, read_all

from cpm_repro.inference.container import Times
from cpm_repro.inference.predict import PredictOptions, predict
from cpm_repro.inference.video import VideoReader

av = pytest.importorskip("av", reason="PyAV is not installed: it writes the videos")

STILL = [0.0, 0.1, 0.15, 0.75, 0.8, 1.3, 1.35, 1.4, 2.0, 2.5, 2.55, 3.0]
"""Seconds of a recorded screen's frames, which come when something moves."""


def write(path, times, rate, start=0.0, flags=""):
    """H.264 (VP8 in WebM) with a frame at each of ``times``; a key frame every ten. Returns the path."""
    with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
        stream = container.add_stream("libvpx" if path.suffix == ".webm" else "libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, seconds in enumerate(times):
            picture = av.VideoFrame.from_ndarray(frame(index), format="bgr24")
            picture.pts, picture.time_base = round(1000 * (start + seconds)), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_recorded_screen_is_whole_and_its_overlay_keeps_the_time(run_folder, tmp_path, capsys):
    """Matroska announces seconds times rate: 12 frames were "12 of 91", and drawn in a sixth of the time."""
    path = write(tmp_path / "x.mkv", STILL, 30)
    with VideoReader(path) as reader:
        assert reader.announced > 80
        assert [got.time for got in reader] == pytest.approx(STILL, abs=2e-3)
        assert (reader.problem, reader.steady) == ("", False)
    boxes = [(10, 0, 60, 60)]
    assert predict(PredictOptions([path], tmp_path / "out", run_folder, boxes=boxes)) == 1
    drawn, rate = read_all(tmp_path / "out" / "visualizations" / "x.mp4")
    assert len(drawn) / rate == pytest.approx(STILL[-1] + 1 / 30, abs=0.05)
    assert "12 frames" in capsys.readouterr().out


def test_a_pause_of_a_day_is_drawn_as_ten_seconds(run_folder, tmp_path):
    path = write(tmp_path / "x.mkv", [0.0, 0.2, 86400.0, 86400.1], 20)
    predict(PredictOptions([path], tmp_path / "out", run_folder, boxes=[(10, 0, 60, 60)]))
    drawn, rate = read_all(tmp_path / "out" / "visualizations" / "x.mp4")
    assert (len(drawn), rate) == (5 + 200 + 2, 20)


def test_an_mp4_in_fragments_counts_no_frames(tmp_path):
    """With an index of them, as for streaming, the rate is that of the first one's frames."""
    times = [index / 30 for index in range(12)] + [0.4 + index / 3 for index in range(12)]
    flags = "frag_keyframe+empty_moov+default_base_moof+global_sidx"
    with VideoReader(write(tmp_path / "x.mp4", times, 30, flags=flags)) as reader:
        assert reader.announced > 40
        assert len(list(reader)) == 24
        assert (reader.problem, reader.steady) == ("", False)


def test_a_browsers_recording_has_the_frames_rate_not_the_clocks(tmp_path):
    times = [round(index / 30 + 0.004 * (index % 3), 3) for index in range(40)]
    with VideoReader(write(tmp_path / "x.webm", times, 1000)) as reader:
        assert reader.rate == pytest.approx(30, rel=0.05)
        assert reader.announced == pytest.approx(40, abs=3)
        assert len(list(reader)) == 40
        assert reader.problem == ""


def test_a_rate_that_the_frames_bear_out_stays_as_stated(tmp_path):
    with VideoReader(write(tmp_path / "x.mkv", [index / 90 for index in range(20)], 90)) as reader:
        assert reader.rate == 90


def test_a_recording_cut_into_pieces_is_whole(tmp_path):
    """A later piece counts its times, and what it announces, from the beginning of the first."""
    if not hasattr(cv2, "CAP_PROP_PTS"):
        pytest.skip("this OpenCV does not tell a frame's time by the file's clock")
    path = write(tmp_path / "x.mkv", [index / 30 for index in range(40)], 30, start=20.0)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 40
        assert reader.problem == ""


def test_a_truncated_recording_of_uneven_times_says_how_far_it_goes(tmp_path):
    whole = write(tmp_path / "x.mkv", [0.2 * index + 0.1 * (index % 2) for index in range(60)], 30)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with VideoReader(tmp_path / "cut.mkv") as reader:
        last = list(reader)[-1].time
        assert reader.problem == (
            f"{tmp_path / 'cut.mkv'}: it could be read up to {last:.1f} of 11.9 seconds, which were kept"
        )


def test_frames_behind_damage_are_read(tmp_path):
    """OpenCV's reading ends at the first packet that does not decode: the rest of the video was dropped."""
    path = write(tmp_path / "x.mp4", [index / 30 for index in range(60)], 30)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 4 + sum(_packet_sizes(path)[:25])
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    with VideoReader(path) as reader:
        frames = list(reader)
        assert 50 <= len(frames) < 60
        assert reader.problem == f"{path}: {len(frames)} of 60 frames could be read, and were kept"
        assert frames[-1].time == pytest.approx(59 / 30, abs=1e-3)
        assert [got.index for got in frames] == list(range(len(frames)))
        assert np.abs(frames[-1].image.astype(int) - frame(59)).mean() < 6


READ = """
import sys
from cpm_repro.inference.video import VideoReader
with VideoReader(sys.argv[1]) as reader:
    frames = len(list(reader))
    print(frames, reader.problem)
"""


def test_what_is_cut_off_is_not_told_packet_by_packet(tmp_path):
    """Reading asks again as often as packets are missing, and FFmpeg wrote a line each time."""
    whole = write(tmp_path / "x.mp4", [index / 30 for index in range(300)], 30, flags="faststart")
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    frames, _, problem = done.stdout.rstrip("\n").partition(" ")
    assert 10 < int(frames) < 290
    assert problem == f"{path}: {frames} of 300 frames could be read, and were kept"
    assert done.stderr == ""


def _packet_sizes(path):
    with av.open(str(path)) as container:
        return [packet.size for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(
    ("counted", "announced", "frames", "problem"),
    [
        (True, 4, [0, 1, 2, 3], ""),
        (True, 10, [0, 1, 2], "3 of 10 frames could be read, and were kept"),
        (False, 100, [0, 1, 2], "it could be read up to 0.2 of 10.0 seconds, which were kept"),
        (False, 55, range(50), ""),  # half a second of sound behind the last frame
        (True, 55, range(50), "50 of 55 frames could be read, and were kept"),
        (False, 40, [0, *range(2, 40)], ""),  # a pause of one: within the slack
        (False, 40, [*range(20), *range(25, 40)], "35 of 40 frames could be read, and were kept"),
        (False, 10, [0, 3, 4, 9], ""),
    ],
)
def test_what_is_missing(counted, announced, frames, problem):
    times = Times(10.0, announced, counted=counted)
    for number in frames:
        times.take(number / 10, -np.inf)
    assert times.missing() == problem
