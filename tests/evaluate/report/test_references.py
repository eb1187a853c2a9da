"""All figures and words of small runs, against fixtures: metrics.json, the terminal, the page, the
model card, a comparison. Their values are checked elsewhere (scikit-learn, loops); here nothing
may change unseen.
"""

import io
import json
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from fexpr import terminal
from fexpr.evaluate import clip_rules, evaluate
from fexpr.evaluate.paired import Candidate, compare
from fexpr.evaluate.report import frame_plots, leaderboard_tables, paired_report
from fexpr.evaluate.report.explanation_page import Explained, write_inside
from fexpr.evaluate.report.model_card import model_card
from fexpr.evaluate.report.run_report import write_page
from fexpr.evaluate.report.terminal_report import print_headline
from fexpr.storage import run
from tests.evaluate.random_predictions import multiclass, multilabel, pictures
from tests.evaluate.report.references import (
    assert_as_stored,
    lines_of,
    record_figures,
    rows_of,
    text_of,
)

ALL = ("last", "best_val", "oracle")
MADE = {
    "versions": {"fexpr": "0.1.0", "jax": "0.10.2"},
    "devices": {"kind": "cpu", "count": 2},
    "command": "python launch.py --config=configs/htnet_samm.py",
    "wall_seconds": 3974.2,
    "resources": {
        "trials": 3,
        "size": 2,
        "chunks": 2,
        "bytes_needed": 8 * 2**20,
        "compile_seconds": 99.7,
        "host_bytes": 3 * 2**29,
        "device_bytes": 2**30,
    },
    "config": {
        "split": {"protocol": "loso"},
        "train": {"epochs": 50, "monitor": "uf1"},
        "model": {"name": "htnet"},
    },
}
UNITS = {
    "name": "samm",
    "source": "samm@0123abcd",
    "kind": "flow",
    "image": [28, 28, 3],
    "group_name": "subject",
    "classes": ["AU04", "AU07"],
    "rows": 133,
    "groups": 28,
    "parts": {"train": {"rows": 80, "groups": 17}, "test": {"rows": 27, "groups": 6}},
}
FACES = {
    "name": "fer2013",
    "source": "synthetic",
    "kind": "face",
    "image": [48, 48, 1],
    "group_name": "image",
    "classes": ["angry", "[happy](x)"],
    "rows": 400,
    "groups": 400,
}
FOLDS = UNITS | {"name": "megc2019", "kind": "clip", "image": [28, 28, 9], "folds": 6}
PEOPLE = {"seen": None, "others": False}


# of clips whose last frames are missing
ATTENTION = {
    "ids": np.array(["b", "a", "c", "d"]),
    "labels": np.array([1, 1, 0, 0]),
    "frame": np.array([[3, 5, 7], [2, 4, -1], [0, 9, 11], [1, -1, -1]]),
    "weights": np.array([[0.2, 0.3, 0.5], [0.9, 0.1, 0], [0.1, 0.1, 0.8], [1, 0, 0]]),
    "shown": np.array([[0.2, 0.5, 0.9], [0.7, 0.4, 0.6], [0.1, 0.2, 0.5], [0.8, 0, 0]]),
}


@cache
def case(name):
    """Predictions, selection, source, the data and the init of config.json, the kind of images."""
    if name == "units":
        start = {"from_run": "runs/a", "trial": 0, "selection": "last", "people": {"seen": 12}}
        return multilabel(classes=6, rows=90), "best_val", "samm@0123abcd", UNITS, start, "flow"
    if name == "pictures":
        start = {"from_file": "vgg.h5", "people": {"others": True}}
        p = pictures(val=80, test=110, selections=ALL[:2])
        kinds = np.array(["", "exact", "", "near", "mirrored", ""])[np.arange(190) % 6]
        return p | {"copy": np.tile(kinds, 2)}, "best_val", "synthetic", FACES, start, "face"
    p = multiclass(subjects=6, per_subject=8, seeds=(0, 1), failed=(9,))
    return p, "last", "megc2019@0", FOLDS, {"from_file": "a.npz", "people": PEOPLE}, "flow"


@cache
def measured(name):
    predictions, selection, source, *_ = case(name)
    return evaluate(predictions, selection, source, resamples=20)


CASES = pytest.mark.parametrize("name", ["units", "pictures", "folds"])


@CASES
def test_metrics(name):
    assert_as_stored(f"{name}_metrics", rows_of(measured(name)), 1e-4)


@CASES
def test_terminal(name):
    out = io.StringIO()
    print_headline(measured(name), Console(file=out, width=160))
    assert_as_stored(f"{name}_terminal", (line.rstrip() for line in out.getvalue().splitlines()))


@CASES
def test_page_and_figures(name, tmp_path, monkeypatch):
    predictions, _, _, data, start, kind = case(name)
    figures = record_figures(monkeypatch)
    folder = tmp_path / "a_run"
    rows = [
        {"epoch": e, "train_loss": 2 / e, "val_loss": 3 / e, "val_uf1": e / 9} for e in (1, 2, 3)
    ]
    run.write_text(folder / run.HISTORY, "".join(json.dumps(row) + "\n" for row in rows))
    content = MADE | {"data": data, "model": {"name": "htnet", "parameters": 5824}, "init": start}
    if name == "folds":
        run.write_arrays(folder / run.ATTENTION, ATTENTION)
    values = np.arange(64 * 3).reshape(8, 8, 3).astype(np.uint8)
    images = {
        i: np.roll(values, n, 1)[..., : 1 if kind == "face" else 3]
        for n, i in enumerate(np.unique(predictions["ids"]).tolist())
    }
    first = predictions["selection"] == "last"
    labels = predictions["labels"][first]
    page = write_page(folder, content, measured(name), predictions, images, labels, kind)
    assert_as_stored(f"{name}_page", [text_of(page.read_text(encoding="utf-8"))])
    assert_as_stored(f"{name}_figures", lines_of(figures))


@CASES
def test_model_card(name):
    *_, data, start, _ = case(name)
    content = MADE | {"data": data, "model": {"name": "htnet", "parameters": 5824}, "init": start}
    card = model_card(content, measured(name), ["trial 0"], [("a.npz", "weights")], "Use it so.")
    assert_as_stored(f"{name}_card", [card])


def test_comparison(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    p, q = (multiclass(subjects=6, per_subject=8, skill=skill) for skill in (0.8, 1.6))
    found = compare(
        [Candidate(n, x, "last", "synthetic") for n, x in (("weak", p), ("strong", q))],
        resamples=20,
    )
    assert_as_stored("comparison", rows_of(found), 1e-4)
    out = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out, width=120))
    paired_report.print_paired(found)
    page = paired_report.write_paired(tmp_path, found, "fexpr evaluate weak strong")
    assert run.read_json(tmp_path / "comparison.json")["rows"] == 48
    assert_as_stored(
        "comparison_page",
        [
            *(line.rstrip() for line in out.getvalue().splitlines()),
            text_of(page.read_text(encoding="utf-8")),
            *lines_of(figures),
        ],
    )


def test_figures_of_frames(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    accuracy = {"value": 0.6, "low": 0.4, "high": 0.9}
    stages = [
        {"name": "all", "rule": "sum", "kept": 1.0, "kept_by_class": [1.0, 1.0]},
        {"name": "q", "rule": "vote", "kept": 0.4, "kept_by_class": [0.3, 0.55]},
        {"name": "r", "rule": "sum", "kept": 0.2, "kept_by_class": [0.1, 0.25]},
    ]
    for stage, low in zip(stages, (0.4, None, 0.5), strict=True):
        stage["rules"] = {stage["rule"]: {"accuracy": accuracy | {"low": low}}}
    stages[1]["filtered_test"] = {"vote": {"accuracy": {"value": 0.7}}}
    frame_plots.by_stage(tmp_path / "stages.png", stages, False)
    frame_plots.kept_by_class(tmp_path / "kept.png", stages, ["happy", "sad"], False)
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])
    kept = np.array([True, False, True])
    panels = [("a", p, 1, kept, p[:, 0]), ("b", p, 0, ~kept, None), ("c", p, 2, kept, None)]
    frame_plots.traces(tmp_path / "traces.png", panels, True)
    faces = np.arange(2 * 4 * 5).reshape(2, 4, 5)
    ids = ["actor_01_sad_very_long_name", "b"]
    frame_plots.looks(tmp_path / "looks.png", faces, faces + 1, faces[::-1], ids, False)
    units = np.linspace(0, 5, 9 * 17).reshape(9, 17)
    units[4, 3] = np.nan
    names = ["a", "b", "c", "d", "nobody"]
    frame_plots.units_by_class(tmp_path / "units.png", units, np.arange(9) % 4, names, False)
    assert_as_stored("frame_figures", lines_of(figures))


def test_inside_of_a_network(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    picture = (np.arange(6 * 5 * 3) * 2).reshape(6, 5, 3).astype(np.uint8)
    smooth = np.linspace(0, 1, 30).reshape(6, 5) ** 2
    features = {"conv/1": np.sin(np.arange(3 * 2 * 25.0)).reshape(3, 2, 25)}
    explained = [
        Explained(kind, picture[..., :n], kind, [("a", "b")], "happy", smooth, 1 - smooth, by, f)
        for kind, n, by, f in (
            ("flow", 3, smooth - 0.2, features),
            ("face", 3, 0.2 - smooth, {}),
            ("face", 2, smooth, {}),
        )
    ]
    assert explained[0].grey.tolist() == (255.0 - picture[..., 2]).tolist()
    assert explained[1].grey.tolist() == picture.mean(axis=2).tolist()
    assert explained[2].grey.tolist() == picture[..., 0].tolist()  # the second is its map
    page = write_inside(tmp_path, explained, "T", "S", [("fact", "1")], ["note"], False)
    words = text_of(page.read_text(encoding="utf-8"))
    assert_as_stored("inside", [words, *lines_of(figures)])


def test_rules_of_clips(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(clip_rules, "console", Console(file=out, width=120))
    monkeypatch.setattr(clip_rules, "say", clip_rules.console.print)
    frames = multiclass(subjects=4, per_subject=9, selections=ALL[:2])
    frames |= {"video": np.char.add("v", (frames["ids"].astype(int) // 3).astype(str))}
    video = frames["video"]
    for name in np.unique(video):
        mine = video == name
        frames["labels"][mine] = frames["labels"][mine][0]
    clips = {
        "rule": "vote",
        "rules": clip_rules.compare(frames, "best_val", 20),
        "frames": clip_rules.of_frames(frames, "best_val", 20),
    }
    clip_rules.print_rules(clips)
    assert_as_stored("clips", [*rows_of(clips), *map(str.rstrip, out.getvalue().splitlines())])


def test_leaderboard(tmp_path, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out, width=160))
    figures = record_figures(monkeypatch)
    estimate = {"value": 0.61, "low": 0.52, "high": 0.7}
    row = {
        "name": "a|b_1",
        "test": {"uf1": estimate, "uar": estimate | {"value": 0.5, "low": None}},
        "folds_f1": 0.4321,
        "per_dataset": {"x": estimate, "y": estimate | {"value": None}},
        "selections": {"last": estimate, "oracle": estimate | {"value": 0.8}},
        "difference": None,
        "seeds": 2,
        "extraction": None,
        "minutes": None,
        "how": "the last epoch",
        "synthetic": True,
    }
    other = row | {
        "name": "c",
        "extraction": "flow",
        "minutes": 2.04,
        "difference": {"value": -0.1, "low": -0.2, "high": None},
        "selections": {"best_val": estimate},
    }
    board = {
        "rows": [row, other],
        "metrics": ["uf1", "uar"],
        "datasets": ["x", "y"],
        "class_names": ["a", "b", "c"],
        "clips": 40,
        "groups": 7,
        "group_name": "subject",
        "resamples": 20,
    }
    written = leaderboard_tables.write_tables(tmp_path, board, "A table", "python <x>")
    leaderboard_tables.print_board(board)
    leaderboard_tables.print_board(board | {"datasets": ["x"]})
    texts = [
        p.read_text(encoding="utf-8")
        for p in sorted(written)
        if p.suffix in (".md", ".csv", ".tex")
    ]
    assert_as_stored(
        "leaderboard",
        [
            *(line.rstrip() for text in (*texts, out.getvalue()) for line in text.splitlines()),
            *lines_of(figures),
        ],
    )
