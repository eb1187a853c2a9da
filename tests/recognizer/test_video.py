"""Pairs of frames and videos are prepared as the run's data were, in constant memory."""

import dataclasses
import importlib.util

import cv2
import numpy as np
import pandas as pd
import pytest

from fexpr.data.preparation import alignment as data_faces
from fexpr.data.preparation import flow, regions
from fexpr.errors import UserError
from fexpr.probabilities import Identity, to_json
from fexpr.recognizer import Recognizer, smoothing, video
from fexpr.recognizer import face_finder as frames
from fexpr.recognizer.calibrated import SetLimits
from tests.data.samm_release import texture
from tests.recognizer import matroska
from tests.recognizer.runs import FIXTURES

needs_portrait = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image, which has it, is missing"
)


@pytest.fixture(scope="module")
def moving():
    """The stored run, of flow; batches of four."""
    return Recognizer.restore(FIXTURES / "run_format_1.zip", batch=4)


@pytest.fixture(scope="module")
def pair():
    """A textured frame, and the same with its lower half moved."""
    onset = texture(0, 224).astype(np.uint8)
    apex = onset.copy()
    apex[112:] = np.roll(onset[112:], 2, axis=1)
    return onset, apex


def test_a_pair_is_read_by_the_flow_between_its_frames(moving, pair, tmp_path):
    expected = moving.predict(flow.flow_map(*pair, 12)[None])
    table = moving.predict_pair(*pair, align="none")
    np.testing.assert_array_equal(table.iloc[:, 1:], expected.iloc[:, 1:])
    paths = [str(tmp_path / name) for name in ("onset.png", "apex.png")]
    for path, frame in zip(paths, pair, strict=True):
        cv2.imwrite(path, frame)
    assert moving.predict_pair(*paths, align="none").index.tolist() == [f"{paths[0]} -> {paths[1]}"]


def test_landmarks_bring_a_face_to_its_place(moving, pair):
    """One transform for both frames; the regions of a run that reads such are cut out too."""
    points = data_faces.TEMPLATE * 0.9 + 8
    transform = data_faces.similarity(points)
    expected = flow.flow_map(*(data_faces.align(frame, transform) for frame in pair), 12)
    np.testing.assert_array_equal(moving.pair(*pair, align="landmarks", landmarks=points), expected)
    joined = frames.pair(*pair, (12, 12, 3), {"regions": "landmarks"}, "landmarks", points)
    np.testing.assert_array_equal(
        joined, regions.join_regions(expected[None], np.float32(data_faces.TEMPLATE)[None])[0]
    )


@needs_portrait
def test_a_pair_is_aligned_by_the_face_on_its_onset(moving):
    import skimage.data

    onset = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)
    apex = np.roll(onset, 1, axis=0)
    transform = data_faces.similarity(data_faces.detect(onset))
    np.testing.assert_array_equal(
        moving.pair(onset, apex),
        flow.flow_map(*(data_faces.align(f, transform) for f in (onset, apex)), 12),
    )
    with pytest.raises(UserError, match=r"pair .*no face"):
        moving.predict_pair(np.full((224, 224), 9, np.uint8), np.full((224, 224), 9, np.uint8))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"align": "guess"}, "align: expected one of 'landmarks', 'detect', 'none'; found 'guess'"),
        ({"align": "landmarks"}, "align='landmarks' needs"),
        ({"align": "none", "landmarks": np.zeros((5, 2))}, "align='landmarks' needs"),
        (
            {"align": "landmarks", "landmarks": np.zeros((4, 2))},
            r"expected \(x, y\) of left_eye, .* found shape \[4, 2\]",
        ),
        (
            {"apex": np.zeros((200, 224), np.uint8), "align": "none"},
            r"apex .*\(224, 200\).*onset",
        ),
        (
            {"apex": np.zeros((224, 224, 3), np.uint8), "align": "none"},
            r"apex .*\n.*found uint8 \[224, 224, 3\]",
        ),
        (
            {"apex": "nowhere.png", "align": "none"},
            "apex .*nowhere.png.*\n.*No such file",
        ),
    ],
)
def test_pairs_that_cannot_be_used(moving, pair, arguments, words):
    with pytest.raises(UserError, match=words):
        moving.predict_pair(**({"onset": pair[0], "apex": pair[1]} | arguments))


def test_regions_need_landmarks(pair):
    with pytest.raises(UserError, match=r"landmarks.*align='detect'"):
        frames.pair(*pair, (12, 12, 3), {"regions": "landmarks"}, "none", None)


def test_a_run_of_faces_reads_no_pairs(faces, pair):
    with pytest.raises(UserError, match=r"'face'.*flow"):
        Recognizer.restore(faces[0]).predict_pair(*pair)


def film(path, images, fps=20):
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, images[0].shape[1::-1]
    )
    for image in images:
        writer.write(
            np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., ::-1]
        )
    writer.release()
    return path


@pytest.fixture(scope="module")
def motion_film(tmp_path_factory, pair):
    onset, apex = pair
    return film(tmp_path_factory.mktemp("film") / "motion.avi", [onset] * 3 + [apex] * 8)


def test_motion_in_a_video_is_read_pair_by_pair(moving, motion_film):
    table = moving.predict_video(motion_film, interval=0.1, every=1, align="none")
    assert table.index.tolist() == [f"{i} -> {i + 2}" for i in range(9)]
    np.testing.assert_allclose(table["seconds"], np.arange(2, 11) / 20)
    decoded = [cv2.cvtColor(f.pixels, cv2.COLOR_RGB2GRAY) for f in video.Video(motion_film)]
    expected = moving.predict(
        np.stack([flow.flow_map(decoded[i], decoded[i + 2], 12) for i in range(9)])
    )
    np.testing.assert_allclose(
        table[list(moving.class_names)], expected[list(moving.class_names)], rtol=1e-6
    )
    # 0.2 s, one after the other
    assert moving.predict_video(motion_film, align="none").index.tolist() == ["0 -> 4", "4 -> 8"]


def test_onset_and_apex_of_a_video(moving, motion_film):
    table = moving.predict_video(motion_film, onset=1, apex=6, align="none")
    frames = [cv2.cvtColor(f.pixels, cv2.COLOR_RGB2GRAY) for f in video.Video(motion_film)]
    expected = moving.predict_pair(frames[1], frames[6], align="none")
    assert table.index.tolist() == ["1 -> 6"]
    np.testing.assert_array_equal(table.iloc[:, 1:], expected.iloc[:, 1:])
    with pytest.raises(UserError, match="expected a number from 0 to 10, found 11"):
        moving.predict_video(motion_film, onset=1, apex=11, align="none")
    with pytest.raises(UserError, match="found None"):
        moving.predict_video(motion_film, apex=3)
    for onset in (3, 5):
        with pytest.raises(UserError, match=f"onset < apex, found onset {onset} and apex 3"):
            moving.predict_video(motion_film, onset=onset, apex=3, align="none")


def test_the_same_picture_twice_shows_no_motion(moving):
    frame = texture(0, 224).astype(np.uint8)
    with pytest.raises(UserError, match="the same picture, which shows no motion"):
        moving.predict_pair(frame, frame.copy(), align="none")
    assert moving.predict_pair(frame, np.roll(frame, 1), align="none")["status"].item() == "ok"


def test_channels_that_a_video_lacks_say_what_to_do(faces, motion_film):
    one = dataclasses.replace(Recognizer.restore(faces[0]), shape=(48, 48, 2))
    with pytest.raises(
        UserError, match=r"face of 2 channels.*\n.*What to do: give Recognizer.pred"
    ):
        one.predict_video(motion_film)


def test_no_more_than_a_batch_is_held(moving, motion_film):
    sizes = [
        (len(held), len(rows))
        for held, rows in video.batches(moving, video.Video(motion_film), 1, 0.1, "none")
    ]
    assert sizes == [(4, 4), (4, 4), (1, 1)]


@needs_portrait
def test_faces_in_a_video(faces, tmp_path):
    import skimage.data

    restored, portrait = (
        Recognizer.restore(faces[0], batch=8),
        skimage.data.astronaut()[:256, 100:356],
    )
    path = film(tmp_path / "face.avi", [portrait] * 4 + [np.zeros_like(portrait)] * 7)
    table = restored.predict_video(path, every=2)
    assert table.index.tolist() == ["0", "2", "4", "6", "8", "10"]
    there = table["decision"] != "no face"
    assert there.tolist() == [True, True, False, False, False, False]
    assert table["face_x"].notna().tolist() == there.tolist()
    (first,) = (f for f in video.Video(path) if f.number == 0)
    one = restored.predict([first.pixels], fit="face", colours="rgb")
    classes = list(restored.class_names)
    np.testing.assert_allclose(
        table[classes].to_numpy(float)[0], one[classes].to_numpy(float)[0], rtol=1e-6
    )
    whole = restored.predict_video(path, align="none")
    assert len(whole) == 11
    assert whole["face_x"].isna().all()
    assert whole["decision"].isin(restored.class_names).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"interval": 0.01},
            r"interval: 0.01 s .*motion.avi .20 frames",
        ),
        (
            {"every": 0, "align": "landmarks"},
            "align: expected one of 'detect', 'none'; found 'landmarks'\n.*every: expected at "
            "least 1",
        ),
    ],
)
def test_options_that_cannot_be_used(moving, motion_film, options, words):
    with pytest.raises(UserError, match=words):
        moving.predict_video(motion_film, **options)


def test_what_is_no_video(moving, tmp_path, capfd):
    (tmp_path / "text.mp4").write_text("hello")
    for name, words in (
        ("text.mp4", "text.mp4.* OpenCV can decode"),
        ("nowhere.mp4", "nowhere.mp4 does not exist"),
        ("", "no.* file"),
    ):
        with pytest.raises(UserError, match=words):
            moving.predict_video(tmp_path / name)
    capfd.readouterr()  # what OpenCV has to say


def box(name, size, content=b""):
    return size.to_bytes(4, "big") + name + content


@pytest.mark.parametrize(
    ("data", "lacks"),
    [
        (box(b"ftyp", 16, b"isom0000") + box(b"mdat", 4000, b"x" * 99), True),
        (box(b"ftyp", 16, b"isom0000") + box(b"mdat", 1, (10**10).to_bytes(8, "big")), True),
        (box(b"ftyp", 16, b"isom0000") + box(b"mdat", 12, b"1234") + box(b"moov", 8), False),
        (box(b"ftyp", 16, b"isom0000") + box(b"mdat", 0), True),
        (box(b"ftyp", 16, b"isom0000") + box(b"free", 1, b"\xff" * 8), True),
        (b"hello, this is a text", False),
        (b"", False),
    ],
)
def test_a_recording_that_was_cut_off_lacks_its_index(data, lacks, moving, tmp_path, capfd):
    (tmp_path / "cut.mp4").write_bytes(data)
    assert video.lacks_index(tmp_path / "cut.mp4") == lacks
    with pytest.raises(UserError, match="index" if lacks else "OpenCV can decode"):
        moving.predict_video(tmp_path / "cut.mp4")
    capfd.readouterr()


def test_time_is_the_containers(tmp_path):
    stamps = [0.0, 0.04, 0.08, 0.5, 0.54, 2.0]
    frames = [(round(1000 * t), np.full((48, 64, 3), 60, np.uint8)) for t in stamps]
    matroska.write(tmp_path / "phone.mkv", frames)
    found = list(video.Video(tmp_path / "phone.mkv"))
    np.testing.assert_allclose([frame.seconds for frame in found], stamps, atol=2e-3)


def test_an_interval_is_of_time_and_not_of_frames(moving, tmp_path):
    stamps = [0.0, 0.1, 0.2, 0.5, 0.6, 0.7]
    path = tmp_path / "phone.mkv"
    matroska.write(path, [(round(1000 * t), np.full((224, 224, 3), 90, np.uint8)) for t in stamps])
    table = moving.predict_video(path, interval=0.2, every=1, align="none")
    assert table.index.tolist() == ["0 -> 2", "1 -> 3", "2 -> 3", "3 -> 5"]
    np.testing.assert_allclose(table["seconds"], [0.2, 0.5, 0.5, 0.7], atol=2e-3)


class Film:
    """In the place of cv2.VideoCapture: `whole` frames are promised, `left` are there."""

    def __init__(self, frame, whole, left):
        self.frame, self.whole, self.left, self.shown = frame, whole, left, -1

    def isOpened(self):
        return True

    def get(self, what):
        return {
            cv2.CAP_PROP_FPS: 25.0,
            cv2.CAP_PROP_FRAME_COUNT: float(self.whole),
            cv2.CAP_PROP_POS_MSEC: self.shown * 40.0,
        }[what]

    def read(self):
        self.shown += 1
        return (True, self.frame) if self.shown < self.left else (False, None)

    def release(self):
        pass


def test_a_file_that_breaks_off_says_so(faces, tmp_path, monkeypatch):
    (tmp_path / "cut.mp4").touch()
    frame = np.zeros((48, 48, 3), np.uint8)
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Film(frame, 60, 24))
    table = Recognizer.restore(faces[0]).predict_video(tmp_path / "cut.mp4", align="none")
    assert len(table) == 25
    assert table.index[-1] == "24 ... 59"
    assert table["status"].iloc[-1] == "unreadable: breaks off: 24 of 60 frames can be decoded"
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda _: Film(frame, 25, 24))  # an estimate
    assert len(Recognizer.restore(faces[0]).predict_video(tmp_path / "cut.mp4", align="none")) == 24


@needs_portrait
def test_everybody_in_a_video_has_rows(faces, tmp_path):
    import skimage.data

    head = skimage.data.astronaut()[:256, 100:356]
    restored = Recognizer.restore(faces[0], batch=3)
    path = film(tmp_path / "two.avi", [np.hstack([head, head[:, ::-1]])] * 6)
    table = restored.predict_video(path)
    assert table.index.tolist() == [str(i) for i in range(6) for _ in range(2)]
    assert table["face"].tolist() == [0, 1] * 6
    assert (table.loc[table["face"] == 1, "face_x"] > 256).all()
    sizes = [len(rows) for _, rows in video.batches(restored, video.Video(path))]
    assert sizes == [4, 4, 4]  # frames stay whole


@needs_portrait
def test_smoothing_is_the_mean_of_log_odds(faces, tmp_path):
    import skimage.data

    head = skimage.data.astronaut()[:256, 100:356]
    restored = Recognizer.restore(faces[0], batch=2)
    path = film(tmp_path / "light.avi", [np.uint8(head * (0.4 + 0.06 * i)) for i in range(10)])
    rough = restored.predict_video(path)
    smooth = pd.concat(smoothing.smoothed(restored, video.tables(restored, path), 0.2))
    assert smooth.index.tolist() == rough.index.tolist()
    classes = list(restored.class_names)
    logs = np.log(rough[classes].to_numpy(float))
    for i in range(10):
        mean = logs[max(0, i - 2) : i + 3].mean(axis=0)  # 20 frames a second
        expected = np.exp(mean) / np.exp(mean).sum()
        np.testing.assert_allclose(smooth[classes].iloc[i].to_numpy(float), expected, rtol=1e-6)
    assert smooth["decision"].tolist() == smooth[classes].astype(float).idxmax(axis=1).tolist()
    assert (smooth["window"] == 0.2).all()


@needs_portrait
def test_a_run_evaluated_on_clips_calibrates_its_windows(faces, tmp_path):
    import skimage.data

    head = skimage.data.astronaut()[:256, 100:356]
    plain = dataclasses.replace(Recognizer.restore(faces[0]), maps=(Identity(),), limits=None)
    windows = {"seconds": [0.2, 0.8], "temperatures": [[0.5, 0.25]], "clips": [9]}
    applied = {"of_trial": [0], "maps": [to_json(Identity())]}
    frames = {"applied": applied, "windows": windows}
    metrics = {"selection": plain.selection, "clips": {"rule": "sum", "frames": frames}}
    measured = dataclasses.replace(plain, metrics=metrics)
    path = film(tmp_path / "light.avi", [np.uint8(head * (0.4 + 0.06 * i)) for i in range(10)])
    classes = list(plain.class_names)
    for seconds, expected in ((0.1, 0.5**0.5), (0.2, 0.5), (0.5, 0.125**0.5), (3.0, 0.25)):
        rough, smooth = (
            pd.concat(smoothing.smoothed(one, video.tables(one, path), seconds))
            for one in (plain, measured)
        )
        assert (rough.attrs["calibrated"], smooth.attrs["calibrated"]) == (False, True)
        sharper = rough[classes].to_numpy(float) ** (1 / expected)
        sharper /= sharper.sum(axis=1, keepdims=True)
        sharper = 0.9 * sharper + 0.1 / len(classes)  # one clip of ten may be of any class
        np.testing.assert_allclose(smooth[classes].to_numpy(float), sharper, rtol=1e-6)


@needs_portrait
def test_a_smoothed_table_has_no_sets(faces, tmp_path):
    """Their limits are those of single frames; so is what is decided 'uncertain'."""
    import skimage.data

    restored = Recognizer.restore(faces[0], batch=2)
    limits = SetLimits(np.array([0.5, 0.99]), np.full((1, 2), 1.0))  # every class is in every set
    restored = dataclasses.replace(restored, limits=limits, coverage=0.9)
    path = film(tmp_path / "still.avi", [skimage.data.astronaut()[:256, 100:356]] * 4)
    rough = restored.predict_video(path)
    assert (rough["decision"] == "uncertain").all()
    smooth = pd.concat(smoothing.smoothed(restored, video.tables(restored, path), 0.2))
    assert "set" not in smooth
    assert set(smooth["decision"]) <= set(restored.class_names)


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), 1e308])
def test_an_interval_is_a_length_of_time(moving, motion_film, interval):
    with pytest.raises(UserError, match="interval"):
        moving.predict_video(motion_film, interval=interval, align="none")
