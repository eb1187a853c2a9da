"""One command makes the table of members, fusion and entries on synthetic clips."""

import csv
import dataclasses
import importlib
import shutil

import numpy as np
import pytest

from configs import leaderboard_megc2019
from fexpr.data import loaders
from fexpr.errors import UserError
from fexpr.storage import run
from tests.experiments.test_machine import labelled
from tests.recognizer.runs import stored

experiment = importlib.import_module("experiments.leaderboard")


def of_many_subjects(config):
    data = labelled(config)
    return dataclasses.replace(data, groups=np.array([f"s{i // 2:02d}" for i in range(24)]))


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(loaders.LOADERS, "megc2019", of_many_subjects)
    config = leaderboard_megc2019.get_config("debug")
    config.evaluate.resamples, config.log.tensorboard = 20, False
    config.members = ("SVM=machine_megc2019:debug", "raw=machine_megc2019:svm_raw")
    config.fused = ("both=SVM & raw",)
    return config


@pytest.mark.long
def test_a_table_of_members_fusion_and_entries(config, tmp_path, monkeypatch):
    folder = tmp_path / "board"
    experiment.leaderboard(config, folder)
    first = run.read_json(folder / "leaderboard.json")
    assert [row["name"] for row in first["rows"]] == [
        "constant",
        "SVM",
        "raw",
        "both",
    ]
    assert all(row["how"] for row in first["rows"])
    assert "2 inner parts" in first["rows"][1]["how"]
    assert "median" in first["rows"][1]["extraction"]

    # finished members are read, a run directory is a member, and so are classes in a CSV
    shutil.copytree(folder / "machine_megc2019_debug", tmp_path / "elsewhere")
    found = run.read_arrays(tmp_path / "elsewhere" / run.PREDICTIONS)
    tested = found["split"] == "test"
    entry = tmp_path / "theirs.csv"
    with open(entry, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["id", "class", "subject"])
        for clip, subject in zip(found["ids"][tested], found["groups"][tested], strict=True):
            writer.writerow([clip, "one", subject])
    machine = importlib.import_module("experiments.machine")
    monkeypatch.setattr(machine, "fit_folds", lambda *_: pytest.fail("fitted again"))
    config.members = (*config.members, f"read={tmp_path / 'elsewhere'}")
    config.entries, config.tables = (f"Theirs={entry}; last epoch",), str(tmp_path / "docs")
    experiment.leaderboard(config, folder)
    second = run.read_json(folder / "leaderboard.json")
    by_name = {row["name"]: row for row in second["rows"]}
    assert by_name["read"]["test"] == by_name["SVM"]["test"]
    assert by_name["Theirs"]["how"] == "last epoch"
    assert by_name["Theirs"]["test"]["uar"]["value"] == pytest.approx(0.5)
    assert (tmp_path / "docs" / "leaderboard.md").exists()
    assert (tmp_path / "docs" / "figures" / "leaderboard.png").exists()
    config.split.seed += 1
    with pytest.raises(UserError, match="another config"):
        experiment.leaderboard(config, folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"members": ("SVM",)}, "expected NAME=CONFIG"),
        ({"members": ("SVM=no_such_config",)}, "No module named"),
        ({"members": ("SVM=mlp_fer2013",)}, "experiment='fit' is none of"),
        ({"members": ("A=aus_mlp_ravdess",)}, "data.name='ravdess_aus'"),
        ({"fused": ("a=SVM & HTNet",)}, "'HTNet' is no member"),
        ({"fused": ("a=SVM",)}, "at least two"),
        ({"fused": ("SVM & raw",)}, "expected NAME=MEMBER & MEMBER"),
        ({"entries": ("Theirs=theirs.csv",)}, "how selection was done"),
    ],
)
def test_mistakes(config, tmp_path, fields, words):
    for name, value in fields.items():
        config[name] = value
    with pytest.raises(UserError) as e:
        experiment.leaderboard(config, tmp_path / "board")
    assert words in e.value.text()
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (run.METRICS, lambda found: found | {"selection": None}, "selection: expected a text"),
        (run.METRICS, lambda found: found | {"selection": "best"}, "no selection 'best'"),
        (run.CONFIG, lambda _: {"model_type": "bert"}, "config: missing"),
        (run.CONFIG, lambda found: found | {"wall_seconds": "1"}, "A cannot be described"),
    ],
)
def test_a_member_that_is_damaged(config, tmp_path, name, damage, words):
    folder = stored(tmp_path)
    run.write_json(folder / name, damage(run.read_json(folder / name)))
    with pytest.raises(UserError) as e:
        experiment.make_board(config, [experiment.Member("A", None, folder)], [], [])
    assert words in e.value.text()
