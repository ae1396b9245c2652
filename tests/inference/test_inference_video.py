"""Videos: frames in order, what is readable is kept, rate and size stay, memory does not grow."""

import os
import resource
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from videos import cut, frame, make_video, read_all

from cpm_repro.errors import EnvironmentFailure, UserError
from cpm_repro.inference import video
from cpm_repro.inference.container import usual_rate
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.outputs import Outputs
from cpm_repro.inference.predict import PredictOptions, predict
from cpm_repro.inference.video import VideoReader, video_writer


def test_frames_come_in_order_with_their_times(tmp_path):
    with VideoReader(make_video(tmp_path / "x.avi", 12, rate=12.5)) as reader:
        frames = list(reader)
        assert (reader.rate, reader.announced, reader.live, reader.problem) == (12.5, 12, False, "")
    assert [f.index for f in frames] == list(range(12))
    assert [f.time for f in frames] == pytest.approx([index / 12.5 for index in range(12)])
    for index in (0, 7):
        assert np.abs(frames[index].image.astype(int) - frame(index)).mean() < 4


def test_frames_at_uneven_times_have_their_own(tmp_path):
    """As a telephone films in the dark: the mean rate would be a third of a second wrong here."""
    av = pytest.importorskip("av", reason="PyAV is not installed: it writes the video of uneven times")
    times = [index / 25 for index in range(15)] + [0.6 + index / 10 for index in range(15)]
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, seconds in enumerate(times):
            picture = av.VideoFrame.from_ndarray(frame(index), format="bgr24")
            picture.pts, picture.time_base = round(1000 * seconds), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    with VideoReader(tmp_path / "x.mp4") as reader:
        assert 14 < reader.rate < 17  # the mean: how long the last frame stands, nobody says
        assert [got.time for got in reader] == pytest.approx(times, abs=1e-6)


def test_files_without_times_get_the_rates(tmp_path, monkeypatch):
    make_video(tmp_path / "x.mp4", 5)
    with VideoReader(tmp_path / "x.mp4") as reader:
        capture = reader._capture

        class Silent:
            read, release = staticmethod(capture.read), staticmethod(capture.release)
            get = staticmethod(lambda _: 0.0)

        monkeypatch.setattr(reader, "_capture", Silent())
        assert [got.time for got in reader] == pytest.approx([index / reader.rate for index in range(5)])


def test_the_readable_frames_of_a_truncated_video_are_kept_and_counted(tmp_path):
    whole = make_video(tmp_path / "x.avi", 40)
    with VideoReader(cut(whole, tmp_path / "cut.avi", 0.6)) as reader:
        frames = list(reader)
        assert 10 < len(frames) < 35
        assert reader.problem == (
            f"{tmp_path / 'cut.avi'}: {len(frames)} of 40 frames could be read, and were kept"
        )


def test_at_most_so_many_frames_are_no_problem(tmp_path):
    with VideoReader(make_video(tmp_path / "x.avi", 20), most=5) as reader:
        assert len(list(reader)) == 5
        assert reader.problem == ""


@pytest.mark.parametrize("name", ["missing.mp4", "folder.mp4", "empty.mp4", "text.mp4", "cut.mp4"])
def test_files_that_are_no_videos_are_one_line(tmp_path, name):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("<html>")
    cut(make_video(tmp_path / "x.mp4"), tmp_path / "cut.mp4", 0.5)  # its index is at the end
    with pytest.raises(UserError, match=f"{name}: (expected|wanted) a video") as refused:
        VideoReader(tmp_path / name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tiff", ".avif"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_picture_under_a_videos_name_is_called_a_picture(tmp_path, suffix, share):
    """Of half a JPEG FFmpeg makes a video of one frame, whose lower half is grey."""
    cv2.imwrite(str(tmp_path / f"x{suffix}"), frame(3))
    clip = cut(tmp_path / f"x{suffix}", tmp_path / "clip.mp4", share)
    with pytest.raises(UserError, match=r"clip\.mp4: expected a video, got a picture \([A-Za-z]+\)"):
        VideoReader(clip)


def test_pictures_one_after_another_are_a_video(tmp_path):
    path = tmp_path / "x.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame(index))[1].tobytes() for index in range(5)))
    with VideoReader(path) as reader:
        assert len(list(reader)) == 5


def test_a_video_of_huge_frames_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", 6000)
    path = make_video(tmp_path / "x.avi", 3)
    with pytest.raises(UserError, match="frames of at most 6000 pixels, got 96 x 64"):
        VideoReader(path)


def test_no_camera_is_one_line():
    with pytest.raises(UserError, match="camera 99: there is no such camera, or it is in use"):
        VideoReader(99)


@pytest.fixture(params=["av", "opencv"])
def writing(request, monkeypatch):
    """Each of the two ways of writing."""
    if request.param == "av":
        pytest.importorskip("av", reason="PyAV is not installed: H.264 is not written")
    else:
        monkeypatch.setattr(video, "find_spec", lambda _: None)
    return request.param


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("rate", [25.0, 29.97, 30000 / 1001, 12.5, 239.873, 1000.0])
def test_rate_and_size_stay(tmp_path, rate):
    with video_writer(tmp_path / "x.mp4", rate) as put:
        for index in range(30):
            put(frame(index))
    frames, got = read_all(tmp_path / "x.mp4")
    assert len(frames) == 30
    assert got == pytest.approx(rate, rel=3e-5)  # of 16 bits, as MPEG-4 writes it
    assert frames[0].shape == (64, 96, 3)
    for index in (0, 29):
        assert np.abs(frames[index].astype(int) - frame(index)).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


@pytest.mark.usefixtures("writing")
@pytest.mark.parametrize("name", [b"not \xff UTF-8", b"2026-05-01T10:30", b"frame%03d", "\u5199".encode()])
def test_a_video_of_any_name(name, tmp_path, monkeypatch):
    """Of a name that is no UTF-8 OpenCV died, and what stands before a colon was a protocol to FFmpeg."""
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name + b".mp4"))
    with video_writer(path, 25.0) as put:
        for index in range(3):
            put(frame(index))
    with VideoReader(path) as reader:
        assert len(list(reader)) == 3
    assert usual_rate(path, 1000.0) == pytest.approx(25)
    assert os.listdir(b".") == [name + b".mp4"]


def test_odd_sizes(writing, tmp_path):
    with video_writer(tmp_path / "x.mp4", 25.0) as put:
        for index in range(5):
            put(frame(index, size=(97, 63)))
    frames, _ = read_all(tmp_path / "x.mp4")
    assert len(frames) == 5
    assert frames[0].shape == ((63, 97, 3) if writing == "av" else (64, 98, 3))


@pytest.mark.usefixtures("writing")
def test_a_frame_of_another_size_is_fitted_into_the_first_ones(tmp_path):
    """Smaller, larger, wider and higher ones: all frames are there, whole and in proportion."""
    sizes = [(96, 64), (48, 32), (192, 128), (96, 16), (10, 64), (96, 64)]
    with video_writer(tmp_path / "x.mp4", 25.0) as put:
        for width, height in sizes:
            put(np.full((height, width, 3), 200, np.uint8))
    frames, _ = read_all(tmp_path / "x.mp4")
    assert [image.shape for image in frames] == [(64, 96, 3)] * len(sizes)
    light = [(image > 100).all(axis=2).mean() for image in frames]
    assert light == pytest.approx([1, 1, 1, 16 / 64, 10 / 96, 1], abs=0.06)
    assert frames[3][32].min() > 150 > 50 > frames[3][4].max()
    assert frames[4][:, 48].min() > 150 > 50 > frames[4][:, 4].max()


@pytest.mark.usefixtures("writing")
def test_a_video_that_was_not_finished_leaves_the_old_one(tmp_path):
    (tmp_path / "x.mp4").write_text("old")
    with pytest.raises(ValueError, match="stop"), video_writer(tmp_path / "x.mp4", 25.0) as put:  # noqa: PT012
        put(frame(0))
        raise ValueError("stop")
    assert (tmp_path / "x.mp4").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    with video_writer(tmp_path / "none.mp4", 25.0):
        pass
    assert not (tmp_path / "none.mp4").exists()


@pytest.mark.usefixtures("writing")
def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(EnvironmentFailure, match=r"cannot write .*x\.mp4"),
        video_writer(tmp_path / "file" / "x.mp4", 25.0),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="limits of file sizes are POSIX")
def test_a_full_disk_is_one_line_and_leaves_nothing(writing, tmp_path):
    """A limit on file sizes stands in for a full disk, which OpenCV does not report at all."""
    code = f"""
import resource, signal, sys
import numpy as np
from cpm_repro.inference import video
from cpm_repro.errors import EnvironmentFailure
if {writing == "opencv"}: video.find_spec = lambda _: None
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0)
try:
    with video.video_writer(r"{tmp_path / "x.mp4"}", 25.0) as put:
        for _ in range(60): put(noise.integers(0, 256, (128, 128, 3), dtype=np.uint8))
except EnvironmentFailure as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"cannot write {tmp_path / 'x.mp4'}: " in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_generator_gives_people_of_every_frame(run_folder, tmp_path):
    estimator = PoseEstimator(run_folder, batch=4)
    path = make_video(tmp_path / "x.avi", 10, rate=20.0)
    everybody = list(estimator.video(path, boxes=[(0, 0, 50, 60), (30, 0, 90, 60)]))
    assert [people.frame for people in everybody] == list(range(10))
    assert everybody[5].time == pytest.approx(0.25)
    assert everybody[5].source == str(path)
    images, _ = read_all(path)
    alone = estimator(images[7], boxes=[(0, 0, 50, 60), (30, 0, 90, 60)])
    for a, b in zip(everybody[7], alone, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_smoothing_is_the_smoother_on_the_plain_poses(run_folder, tmp_path):
    from cpm_repro.inference.smoothing import PoseSmoother

    estimator = PoseEstimator(run_folder)
    path = make_video(tmp_path / "x.avi", 10)
    plain, smooth = list(estimator.video(path)), list(estimator.video(path, smooth=True))
    by_hand = PoseSmoother()
    for a, b in zip(plain, smooth, strict=True):
        np.testing.assert_array_equal(by_hand(a, a.time)[0].keypoints, b[0].keypoints)


def test_a_truncated_video_warns_at_its_end(run_folder, tmp_path):
    path = cut(make_video(tmp_path / "x.avi", 40), tmp_path / "cut.avi", 0.5)
    with pytest.warns(UserWarning, match="of 40 frames could be read"):
        people = list(PoseEstimator(run_folder).video(path))
    assert len(people) > 5


def test_leaving_a_video_early_stops_its_thread(run_folder, tmp_path):
    import threading

    frames = PoseEstimator(run_folder, batch=2).video(make_video(tmp_path / "x.avi", 60))
    next(frames)
    frames.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


MEMORY = """
import resource, sys
from cpm_repro.inference.outputs import Outputs
from cpm_repro.inference.predict import PredictOptions, predict
peaks, take = [], Outputs._take_common
def watch(self, people):
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    take(self, people)
Outputs._take_common = watch
predict(PredictOptions([sys.argv[1]], out=sys.argv[2], formats=("json", "coco", "csv"), smooth=True))
print(len(peaks), *(peaks[int(after)] for after in sys.argv[3:]), peaks[-1])
"""


def peak_memory(path, out, *after):
    """Frames, and the peak in MB after these frames and at the end, of `cpm predict`, the bundled network.

    Large blocks come straight from the system. In glibc's heap they leave holes of all sizes (frames, limbs,
    the encoder's pictures), and the peak creeps up by 4 to 17 MB until about frame 200, then stands: 520.1 MB
    after 180 and 520.4 MB after 600 frames of 720p. It hid how little is held.
    """
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, path, out, *map(str, after)],
        capture_output=True, text=True, check=True, env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
    )  # fmt: skip
    frames, *peaks = map(int, done.stdout.splitlines()[-1].split())
    unit = 1024 if sys.platform != "darwin" else 1 << 20
    return frames, *(peak / unit for peak in peaks)


@pytest.mark.skipif(not hasattr(resource, "getrusage"), reason="peak memory is read with getrusage")
def test_memory_does_not_grow_with_a_short_video(tmp_path):
    path = make_video(tmp_path / "x.avi", 90, size=(640, 360))
    frames, early, late = peak_memory(path, tmp_path / "out", 45)
    assert frames == 90
    assert late - early < 15, (early, late)  # 45 frames of it decoded are 31 MB


@pytest.mark.slow
def test_memory_does_not_grow_with_300_frames_of_720p(tmp_path):
    """Decoding, estimating, drawing and encoding 300 frames of 1280 x 720: the peak stands.

    Measured in four runs: from frame 50 on 2.0 to 7.6 MB, as the queues happen to be full at once sooner or
    later; from frame 150 on 0 to 0.8 MB. A frame is 2.8 MB, 250 of them 690 MB.
    """
    path = make_video(tmp_path / "x.mp4", 300, rate=30.0, size=(1280, 720))
    frames, early, middle, late = peak_memory(path, tmp_path / "out", 50, 150)
    assert frames == 300
    assert late - early < 15, (early, middle, late)
    assert late - middle < 3, (early, middle, late)
    images, rate = read_all(tmp_path / "out" / "visualizations" / "x.mp4")
    assert (len(images), images[0].shape, rate) == (300, (720, 1280, 3), 30.0)


def test_nothing_is_kept_of_a_frame_that_is_written(run_folder, tmp_path, monkeypatch):
    """What Python and NumPy hold: no record of a frame stays, which is 3 kB or more of each.

    The least of 30 frames counts, between the queues' ups and downs. Measured: 0.4 kB a frame at most, which
    the collector of garbage takes back later (35.2 MB after frame 80, 35.1 MB after frame 200).
    """
    held, take = [], Outputs._take_common

    def watch(self, people):
        if not held:
            tracemalloc.start()
        held.append(tracemalloc.get_traced_memory()[0])
        take(self, people)

    monkeypatch.setattr(Outputs, "_take_common", watch)
    video = make_video(tmp_path / "x.avi", 120, size=(48, 32))
    try:
        formats = ("json", "coco", "csv")
        predict(PredictOptions([video], tmp_path / "out", run_folder, formats=formats, smooth=True))
    finally:
        tracemalloc.stop()
    assert len(held) == 120
    assert min(held[90:]) - min(held[20:50]) < 70 * 1000, (held[20::10], "bytes")


class FakeCamera:
    """A camera that gives ten frames and then nothing, or whose user has had enough after some."""

    def __init__(self, number):
        self.number, self.read_frames = number, 0

    def isOpened(self):
        return self.number == 3

    def get(self, what):
        return {video.cv2.CAP_PROP_FPS: 20.0}.get(what, -1.0)

    def set(self, *setting):
        return len(setting) == 2

    def read(self):
        self.read_frames += 1
        return (True, frame(self.read_frames)) if self.read_frames <= 10 else (False, None)

    def release(self):
        pass


@pytest.fixture
def camera(monkeypatch):
    """Camera 3 is there, one frame every 0.1 s of a clock of its own."""
    real = video.cv2.VideoCapture
    monkeypatch.setattr(
        video.cv2, "VideoCapture", lambda what: FakeCamera(what) if isinstance(what, int) else real(what)
    )
    clock = iter(np.arange(0, 100, 0.1).tolist())
    monkeypatch.setattr(video, "time", SimpleNamespace(monotonic=lambda: next(clock)))


@pytest.mark.usefixtures("camera")
def test_a_cameras_frames_have_the_clocks_time():
    with VideoReader(3) as reader:
        assert (reader.live, reader.rate, reader.announced, reader.name) == (True, 20.0, 0, "camera 3")
        assert [f.time for f in reader] == pytest.approx([0.1 * index for index in range(1, 11)])
        assert "gave no more frames after 10" in reader.problem


@pytest.mark.usefixtures("camera")
def test_a_cameras_recording_keeps_the_time(run_folder, tmp_path):
    """Frames come at half the camera's rate, as from a slow network: each is shown twice."""
    predict(PredictOptions(["3"], weights=run_folder, out=tmp_path / "out", frames=6))
    frames, rate = read_all(tmp_path / "out" / "visualizations" / "camera3.mp4")
    assert rate == 20.0
    assert len(frames) == 13  # the last one is due 0.6 s after the start


def test_opencv_speaks_again_when_the_last_reader_of_several_is_done():
    """In threads they overlap in any order: the second put back the first one's silence, for good."""
    level = cv2.utils.logging.getLogLevel()
    first, second = video.quiet_opencv(), video.quiet_opencv()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
    second.__exit__(None, None, None)
    assert cv2.utils.logging.getLogLevel() == level != cv2.utils.logging.LOG_LEVEL_SILENT


def test_a_drawn_video_is_as_private_as_the_other_results(tmp_path):
    mask = os.umask(0o077)
    try:
        with video_writer(tmp_path / "x.mp4", 25.0) as put:
            put(frame(0))
    finally:
        os.umask(mask)
    assert (tmp_path / "x.mp4").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("camera")
def test_an_interrupt_ends_a_cameras_recording_as_a_whole(run_folder, tmp_path, monkeypatch, capsys):
    draw, seen = FakeCamera.read, []

    def read(self):
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return draw(self)

    monkeypatch.setattr(FakeCamera, "read", read)
    done = predict(PredictOptions(["3"], weights=run_folder, out=tmp_path / "out"))
    assert done == 1
    assert "camera 3: 4 frames" in capsys.readouterr().out
    assert read_all(tmp_path / "out" / "visualizations" / "camera3.mp4")[0]
