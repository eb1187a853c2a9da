"""python -m fexpr.recognizer: rows to a file or to standard output, drawings, and every mistake in
one message.
"""

import dataclasses
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from fexpr import terminal
from fexpr.data.preparation import flow
from fexpr.probabilities import Identity, Temperature
from fexpr.recognizer import Recognizer, draw, read_out, video
from fexpr.recognizer import __main__ as command
from tests.data.samm_release import texture
from tests.launching import ROOT, environment
from tests.recognizer.runs import FIXTURES, Camera
from tests.recognizer.test_video import film

RUN = str(FIXTURES / "run_format_1.zip")
needs_portrait = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image, which has it, is missing"
)


@pytest.fixture(autouse=True)
def _streams(monkeypatch):
    """A console that writes to the stderr of the moment, not to that of the import."""
    monkeypatch.setattr(terminal, "errors", terminal.Console(file=io.StringIO()))


@pytest.fixture
def maps(tmp_path):
    """Three flow maps as files, two of them in one folder, and their pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 3), np.uint8)
    names = ["folder/a.png", "folder/b.png", "c.png"]
    (tmp_path / "folder").mkdir()
    for name, image in zip(names, pixels, strict=True):
        cv2.imwrite(str(tmp_path / name), image[..., ::-1])
    return tmp_path, [str(tmp_path / name) for name in names], pixels


def test_rows_of_pictures_as_csv(maps, capsys):
    folder, paths, pixels = maps
    assert command.main([RUN, str(folder / "folder"), paths[2]]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="image")
    expected = Recognizer.restore(RUN).predict(pixels)
    assert table.index.tolist() == paths
    assert table.columns.tolist() == expected.columns.tolist()
    assert table["decision"].tolist() == expected["decision"].tolist()
    np.testing.assert_allclose(table.iloc[:, 2:], expected.iloc[:, 2:], rtol=1e-6)


def test_rows_as_json_lines_of_one_trial_with_drawings(maps, tmp_path):
    _, paths, pixels = maps
    out = tmp_path / "rows.jsonl"
    assert (
        command.main([RUN, *paths, "--trial=1", f"--out={out}", f"--annotate={tmp_path / 'drawn'}"])
        == 0
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = Recognizer.restore(RUN, trial=1).predict(pixels)
    assert [row["image"] for row in rows] == paths
    assert "spread" not in rows[0]
    np.testing.assert_allclose([row["other"] for row in rows], expected["other"], rtol=1e-6)
    drawn = cv2.imread(str(tmp_path / "drawn" / "a.png"))
    assert min(drawn.shape[:2]) >= draw.LEAST
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["a.png", "b.png", "c.png"]
    assert command.main([RUN, paths[0], f"--annotate={tmp_path / 'drawn'}", f"--out={out}"]) == 0
    assert (tmp_path / "drawn" / "a_2.png").exists()  # nothing is overwritten


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2])
def test_as_a_person_types_it_on_another_number_of_devices(tmp_path, devices):
    """In a process of its own; the run was trained on four, as many as the other tests have.
    Standard output holds rows alone.
    """
    frames = [texture(0, 224).astype(np.uint8)]
    frames.append(np.roll(frames[0], 2, axis=1))
    paths = [str(tmp_path / name) for name in ("onset.png", "apex.png")]
    for path, frame in zip(paths, frames, strict=True):
        cv2.imwrite(path, frame)
    typed = [
        sys.executable,
        "-m",
        "fexpr.recognizer",
        RUN,
        "--pair",
        *paths,
        "--align=none",
        "--format=jsonl",
    ]
    env = environment(tmp_path, devices=devices, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        typed, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    expected = Recognizer.restore(RUN).predict(flow.flow_map(*frames, 12)[None])
    assert row["decision"] == expected["decision"].item()
    np.testing.assert_allclose(row["one"], expected["one"].item(), rtol=1e-5)
    assert "ensemble of 3 trials" in done.stderr
    assert "calibrated" in done.stderr


@pytest.mark.long
def test_a_broken_picture_is_one_message_without_opencvs_own(tmp_path):
    whole = cv2.imencode(".png", texture(0, 12).astype(np.uint8))[1].tobytes()
    (tmp_path / "cut.png").write_bytes(whole[:-20])
    done = subprocess.run(
        [sys.executable, "-m", "fexpr.recognizer", RUN, "cut.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(tmp_path, PYTHONPATH=str(ROOT)),
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "  - cut.png: is cut off" in done.stderr
    assert "What to do: correct them or leave them out" in done.stderr
    assert "WARN" not in done.stderr
    assert "Traceback" not in done.stderr


def test_pairs(tmp_path):
    frames = [texture(0, 224).astype(np.uint8), texture(1, 224).astype(np.uint8)]
    paths = [str(tmp_path / name) for name in ("onset.png", "apex.png")]
    for path, frame in zip(paths, frames, strict=True):
        cv2.imwrite(path, frame)
    # the template itself
    points = ["59", "72", "165", "72", "112", "123", "66", "168", "158", "168"]
    out = tmp_path / "rows.csv"
    arguments = [
        "--pair",
        *paths,
        "--pair",
        *paths[::-1],
        "--align=landmarks",
        "--landmarks",
        *points,
    ]
    assert command.main([RUN, *arguments, f"--out={out}", f"--annotate={tmp_path}"]) == 0
    table = pd.read_csv(out, index_col="image")
    expected = Recognizer.restore(RUN).predict_pair(*frames, align="none")
    assert table.index.tolist() == [f"{paths[0]} -> {paths[1]}", f"{paths[1]} -> {paths[0]}"]
    np.testing.assert_allclose(table["one"].iloc[0], expected["one"].item(), atol=1e-6)
    assert (tmp_path / "apex_2.png").exists()


def test_two_frames_of_a_video(tmp_path, capsys):
    path = film(tmp_path / "film.avi", [texture(i, 224).astype(np.uint8) for i in range(4)])
    assert (
        command.main(
            [RUN, "--video", str(path), "--onset=0", "--apex=3", "--align=none", "--format=jsonl"]
        )
        == 0
    )
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    expected = Recognizer.restore(RUN).predict_video(path, onset=0, apex=3, align="none")
    assert row["frame"] == "0 -> 3"
    np.testing.assert_allclose(row["one"], expected["one"].item(), rtol=1e-6)


@needs_portrait
def test_a_video_of_faces_with_boxes_drawn(faces, tmp_path):
    import skimage.data

    portrait = skimage.data.astronaut()[:256, 100:356]
    path = film(tmp_path / "face.avi", [portrait] * 11)
    out, drawn = tmp_path / "rows.csv", tmp_path / "drawn.mp4"
    assert (
        command.main(
            [
                str(faces[0]),
                "--video",
                str(path),
                "--every=2",
                f"--out={out}",
                f"--annotate={drawn}",
            ]
        )
        == 0
    )
    table = pd.read_csv(out, index_col="frame")
    assert table.index.tolist() == [0, 2, 4, 6, 8, 10]
    seen = list(video.Video(drawn))
    assert len(seen) == 6
    factor = seen[0].pixels.shape[0] // 256
    x, y, height = (round(table[f"face_{name}"].iloc[0]) for name in ("x", "y", "height"))
    edge = seen[0].pixels[factor * (y + height // 2), factor * x].astype(int)
    assert edge[1] > edge[0] + 30  # the left side of the box is green
    assert "SYNTHETIC" in terminal.errors.file.getvalue()


@needs_portrait
def test_a_camera_runs_until_it_is_interrupted(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(
        video.cv2, "VideoCapture", lambda _: Camera(np.zeros((60, 80, 3), np.uint8))
    )
    before = signal.getsignal(signal.SIGINT)
    out, drawn = tmp_path / "rows.csv", tmp_path / "drawn.mp4"
    assert command.main([str(faces[0]), "--camera", f"--out={out}", f"--annotate={drawn}"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert pd.read_csv(out)["decision"].tolist() == ["no face"] * 2
    assert drawn.stat().st_size > 0


@pytest.mark.parametrize(
    ("maps", "windows", "words"),
    [
        ((Temperature(2.0),), {}, "single frames were calibrated, such means were not"),
        ((Identity(),), {}, "single frames were not calibrated, such means were not"),
        (
            (Identity(),),
            {"temperatures": [[3.0]], "seconds": [1.0], "clips": [9]},
            "single frames were not calibrated, such means were, by a temperature of 3.00",
        ),
    ],
)
def test_what_is_said_of_means_agrees_with_the_map(faces, maps, windows, words):
    one = Recognizer.restore(faces[0])
    metrics = one.metrics | {"clips": {"rule": "sum", "frames": {"windows": windows}}}
    one = dataclasses.replace(one, maps=maps, metrics=metrics)
    command.describe(one, command.parser().parse_args([RUN, "--video=a.mp4", "--smooth=1"]))
    printed = " ".join(terminal.errors.file.getvalue().split())  # the console breaks lines
    assert f"a mean over 1 s; {words} trained on" in printed


@needs_portrait
def test_an_interrupted_video_keeps_its_rows(faces, tmp_path, monkeypatch, capsys):
    path = film(tmp_path / "long.avi", [np.zeros((60, 80, 3), np.uint8)] * 60)
    out, drawn = tmp_path / "rows.csv", tmp_path / "drawn.mp4"
    tabulated, tables = video._tabulated, []

    def interrupted(*arguments):
        tables.append(tabulated(*arguments))
        if len(tables) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return tables[-1]

    monkeypatch.setattr(video, "_tabulated", interrupted)
    typed = [str(faces[0]), "--video", str(path), f"--out={out}", f"--annotate={drawn}"]
    assert command.main(typed) == 130
    assert capsys.readouterr().err == "interrupted: the rows so far are written\n"
    rows = len(pd.read_csv(out))
    assert rows == 2 * command.FRAMES == len(list(video.Video(drawn)))


def test_interrupted_pictures_keep_their_rows(maps, monkeypatch, capsys):
    folder, paths, _ = maps
    monkeypatch.setattr(read_out, "AT_ONCE", 1)
    write_rows = read_out.write_rows

    def interrupted(*arguments):
        write_rows(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(read_out, "write_rows", interrupted)
    assert command.main([RUN, *paths, f"--out={folder / 'rows.csv'}"]) == 130
    assert pd.read_csv(folder / "rows.csv")["image"].tolist() == paths[:1]
    assert capsys.readouterr().err == "interrupted: the rows so far are written\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected one of pictures, --pair, --video, --camera; found none"),
        (["a.png", "--video", "b.mp4"], "found pictures and --video"),
        (["a.png", "--out=rows.txt"], "--out=rows.txt: name it .csv or .jsonl"),
        (["--video", "b.mp4", "--annotate=drawn"], "an annotated video is a .mp4 file"),
        (["a.png", "--align=landmarks"], "--align=landmarks needs --pair"),
        (["--pair", "a.png", "b.png", "--align=landmarks"], "needs --landmarks, which is not"),
        (["--video", "b.mp4", "--onset=3"], "--onset and --apex must be given together"),
        (["a.png", "--smooth=1"], "--smooth is not read with pictures, only with the frames of"),
        (["a.png", "--every=2"], "--every is not read with pictures"),
        (["b.mp4", "--spot", "--interval=0.1"], "--interval is not read with --spot"),
        (["b.mp4", "--spot", "--align=none"], "--align is not read with --spot"),
        (["b.mp4", "--clip", "--spot"], "--clip and --spot cannot be combined"),
        (["b.mp4", "--clip", "--smooth=1"], "--smooth is not read with --clip"),
        (["--camera", "--spot"], "--spot needs --video"),
        (["b.mp4", "--smooth=nan"], "--smooth=nan: expected a number above 0"),
        (["b.mp4", "--interval=inf"], "--interval=inf: expected a number above 0"),
        (["b.mp4", "--interval=1e308"], "--interval=1e+308: expected a number above 0, at most"),
        (["b.mp4", "--every=0"], "--every=0: expected a number above 0"),
        (["--camera=-1"], "--camera=-1: expected the number of a camera"),
        (["b.mp4", "--smooth=1", "--coverage=0.8"], "--coverage cannot be combined with --smooth"),
        (["nowhere.png"], "nowhere.png does not exist"),
        ([f"{'x' * 3000}.png"], "x.png does not exist"),
        (["--video", "x" * 3000], "x does not exist"),
        (["--video", "nowhere.mp4"], "nowhere.mp4 does not exist"),
        (["--pair", "a.png", "b.png", "--align=none"], "the onset frame a.png cannot be used"),
    ],
)
def test_mistakes(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main([RUN, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_broken_picture_is_a_row(maps, tmp_path):
    """The others are read; what was read and skipped is counted."""
    folder, paths, _ = maps
    (folder / "folder" / "below").mkdir()
    (folder / "folder" / "below" / "bad.png").write_text("hello")
    (folder / "folder" / "._a.png").write_text("attributes of macOS")
    (folder / "folder" / "notes.txt").touch()
    (folder / "folder" / "above").symlink_to("..")
    out = tmp_path / "rows.csv"
    assert command.main([RUN, str(folder / "folder"), f"--out={out}"]) == 0
    table = pd.read_csv(out)
    assert table["image"].tolist() == [*paths[:2], str(folder / "folder" / "below" / "bad.png")]
    assert table["status"].tolist() == [
        "ok",
        "ok",
        "unreadable: is not an image, or is cut off (5 bytes)",
    ]
    assert table["decision"].tolist()[2] == "unreadable"
    said = terminal.errors.file.getvalue()
    assert "3 pictures, 1 that cannot be read" in said
    assert "skipped    3 that are not pictures: 1 .png, 1 .txt, 1 links to folders" in said


def test_a_strip_is_drawn_no_larger_than_other_pictures():
    rows = pd.DataFrame({"decision": ["no face"], "face": [np.nan], "a": [np.nan]})
    for shape in ((1, 3000, 3), (30_000, 2, 3), (1, 1, 3)):
        drawn = draw.annotated(np.zeros(shape, np.uint8), rows, ["a"])
        assert max(drawn.shape) < 3 * draw.MOST
    assert min(drawn.shape[:2]) >= draw.LEAST


def test_names_of_any_length_and_bytes(maps, tmp_path):
    """A name that is not UTF-8 is shown with escapes; drawings have names that can be written."""
    folder, paths, _ = maps
    named = [b"latin\xe9.png", b"n" * 251 + b".png", "顔 😀.png".encode(), b"=1+1\n.png"]
    below = folder / "named"
    below.mkdir()
    for name in named:
        shutil.copy(paths[0], os.fsencode(below) + b"/" + name)
    out = tmp_path / "rows.csv"
    assert command.main([RUN, str(below), f"--out={out}", f"--annotate={tmp_path / 'drawn'}"]) == 0
    table = pd.read_csv(out)
    assert table["status"].tolist() == ["ok"] * 4
    assert f"{below}/latin\\udce9.png" in table["image"].tolist()
    assert len(list((tmp_path / "drawn").iterdir())) == 4


def test_a_terminal_is_not_commanded_by_the_name_of_a_file():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    table = pd.DataFrame({"decision": ["=1+1"]}, index=pd.Index(["\x1b[31m.png"], name="image"))
    shown, piped = Terminal(), io.StringIO()
    for stream in (shown, piped):
        read_out.write_rows(table, stream, "csv", first=False)
    assert shown.getvalue() == "\\x1b[31m.png,'=1+1\n"
    assert piped.getvalue() == "\x1b[31m.png,'=1+1\n"


def test_nothing_half_written_is_left(tmp_path, capsys):
    """Where no picture can be read, there is no table."""
    (tmp_path / "bad.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    out = tmp_path / "rows.csv"
    names = [str(tmp_path / name) for name in ("bad.png", "empty.png")]
    assert command.main([RUN, *names, f"--out={out}"]) == 2
    said = capsys.readouterr().err
    assert "bad.png: is not an image" in said
    assert "empty.png: is not an image" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.png", "empty.png"]


@needs_portrait
def test_a_video_named_alone_and_its_decision(faces, tmp_path, capsys):
    import skimage.data

    head = skimage.data.astronaut()[:256, 100:356]
    path = film(tmp_path / "talk.avi", [head] * 6)
    run, options = str(faces[0]), [f"--annotate={tmp_path / 'drawn.mp4'}"]
    assert command.main([run, str(path), *options]) == 0
    rows = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="frame")
    assert len(rows) == 6
    (line,) = (t for t in terminal.errors.file.getvalue().splitlines() if t.startswith("clip"))
    assert "by mean log odds over 6 rows" in line
    assert command.main([run, str(path), "--clip"]) == 0
    clip = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="video")
    assert clip.index.tolist() == [str(path)]
    assert clip["rows"].tolist() == [6]
    assert f"face 0: {clip['decision'].iloc[0]} (" in line


def test_videos_and_pictures_are_not_mixed(capsys):
    assert command.main([RUN, "a.mp4", "b.png", "--clip"]) == 2
    shown = capsys.readouterr().err
    assert "a.mp4: give one video alone" in shown
    assert "--clip needs a video" in shown
