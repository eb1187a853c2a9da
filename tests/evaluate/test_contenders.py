"""Rows of a leaderboard: figures against scikit-learn, and entries that do not fit."""

import csv
import re

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from fexpr.errors import UserError
from fexpr.evaluate import contenders as board
from fexpr.evaluate.report import leaderboard_tables
from tests.evaluate.test_fusion import predictions

CLASSES = ["a", "b", "c"]


def contender(name, seed, skill=0.0, **changes):
    p = predictions(seed, skill)
    p["dataset"] = np.where(np.char.startswith(p["ids"], "r0"), "x", "y")
    fields = {"how": "the last epoch", "extraction": "flow", "minutes": 2.0} | changes
    return board.Contender(name, board.answers_of(p, "last"), "last", **fields), p


@pytest.fixture
def two():
    return [contender("one", 0)[0], contender("good", 1, skill=3.0)[0]]


def write_entry(path, decided, columns=("id", "class"), **more):
    with open(path, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow([*columns, *more])
        for i, (clip, k) in enumerate(decided):
            writer.writerow([clip, k, *(values[i] for values in more.values())])
    return path


def test_figures_are_those_of_scikit_learn(two):
    found = board.leaderboard(two, CLASSES, resamples=50)
    p, row = contender("one", 0)[1], found["rows"][0]
    uf1, recall, folds = [], [], []
    for seed in range(2):
        mine = (p["split"] == "test") & (p["trial_seed"][p["trial"]] == seed)
        truth, says = p["labels"][mine], p["logits"][mine].argmax(1)
        uf1.append(f1_score(truth, says, average="macro"))
        recall.append(recall_score(truth, says, average="macro"))
        for fold in range(2):
            at = p["trial_fold"][p["trial"][mine]] == fold
            folds.append(f1_score(truth[at], says[at], average="macro"))
    assert row["test"]["uf1"]["value"] == pytest.approx(np.mean(uf1))
    assert row["test"]["uar"]["value"] == pytest.approx(np.mean(recall))
    assert row["folds_f1"] == pytest.approx(np.mean(folds))
    assert row["seeds"] == 2
    assert found["best"] == "good"
    assert found["rows"][1]["difference"] is None
    best = found["rows"][1]["test"]["uf1"]["value"]
    assert row["difference"]["value"] == pytest.approx(np.mean(uf1) - best)
    assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    assert list(row["per_dataset"]) == ["x", "y"]


def test_an_entry_of_classes(two, tmp_path):
    answer = two[0].answer
    says = answer.rows.at(answer.rows.pools()[0]).decisions.argmax(1)
    lines = [(clip, CLASSES[k]) for clip, k in zip(answer.ids, says, strict=True)][::-1]
    read = board.read_entry(write_entry(tmp_path / "e.csv", lines), answer, CLASSES)
    entry = board.Contender("theirs", read, "last", "the best epoch on test")
    row = board.leaderboard([*two, entry], CLASSES, resamples=50)["rows"][2]
    assert row["test"]["uf1"]["value"] == pytest.approx(
        board.leaderboard(two, CLASSES, resamples=50)["rows"][0]["test"]["uf1"]["seeds"][0]
    )
    assert row["minutes"] is None


def test_an_entry_that_does_not_fit_names_every_line(two, tmp_path):
    ids, groups = two[0].answer.ids.tolist(), two[0].answer.rows.groups.tolist()
    lines = [(clip, "a") for clip in ids[:-2]] + [(ids[0], "a"), ("r99", "a"), (ids[-2], "d")]
    subjects = [*groups[:3], "someone", *groups[4 : len(ids) - 2], groups[0], "s", groups[0]]
    path = write_entry(tmp_path / "e.csv", lines, subject=subjects)
    with pytest.raises(UserError) as e:
        board.read_entry(path, two[0].answer, CLASSES)
    text = e.value.text()
    for words in (
        f"line 12, {ids[0]}: named before",
        "line 13, r99: not among the 12 test rows",
        f"line 14, {ids[-2]}: class 'd', expected one of a, b, c",
        f"line 5, {ids[3]}: subject 'someone', expected {groups[3]!r}",
        f"1 test rows are missing: {ids[-1]}",
    ):
        assert words in text, words
    with pytest.raises(UserError, match="no column id"):
        board.read_entry(
            write_entry(tmp_path / "f.csv", lines, ("clip", "class")), two[0].answer, CLASSES
        )
    with pytest.raises(UserError, match="UTF-8"):
        board.read_entry(tmp_path / "none.csv", two[0].answer, CLASSES)


def test_rows_of_others_are_refused(two):
    _, p = contender("other", 2)
    moved = p | {"groups": np.where(p["ids"] == "r03", "g9", p["groups"])}
    fewer = {k: v[p["ids"] != "r05"] if len(v) == len(p["ids"]) else v for k, v in p.items()}
    labels = p | {"labels": np.where(p["ids"] == "r07", 0, p["labels"])}
    others = [
        board.Contender(name, board.answers_of(each, "last"), "last", "last epoch")
        for name, each in (("moved", moved), ("fewer", fewer), ("labels", labels))
    ]
    with pytest.raises(UserError) as e:
        board.leaderboard([*two, *others, two[0]], CLASSES)
    text = e.value.text()
    assert re.search(r"moved: 1 test rows .*: r03", text)
    assert re.search(r"fewer: 1 test rows .*: r05", text)
    assert re.search(r"labels: 1 test rows .*: r07", text)
    assert "one: 2 rows of this name" in text


def test_selection_must_be_said():
    with pytest.raises(UserError, match=r"selection.*\n.*'last epoch'"):
        contender("silent", 0, how=" ")


def test_another_metric_may_come_first(two):
    found = board.leaderboard(two, CLASSES, ("accuracy", "uf1"), resamples=50)
    row = found["rows"][0]
    assert list(row["test"]) == ["accuracy", "uf1"]
    assert row["selections"]["last"] == row["test"]["accuracy"]
    best = found["rows"][1]["test"]["accuracy"]["value"]
    assert row["difference"]["value"] == pytest.approx(row["test"]["accuracy"]["value"] - best)


def test_the_constant_predictor(two):
    p = contender("one", 0)[1]
    p["train_positives"] = np.tile([1.0, 3.0, 2.0], (4, 1))
    answer = board.constant_of(p, "last")["last"]
    assert (answer.rows.decisions.argmax(1) == 1).all()
    assert len(answer.ids) == len(answer.rows.decisions) == 12
    constant = board.Contender("constant", {"last": answer}, "last", "nothing")
    found = board.leaderboard([constant, *two], CLASSES, resamples=50)
    assert found["rows"][0]["test"]["uar"]["value"] == pytest.approx(1 / 3)


def test_the_tables(two, tmp_path):
    p = contender("net", 3)[1]
    oracle = p | {"selection": np.full(len(p["ids"]), "oracle")}
    both = {k: np.concatenate([p[k], oracle[k]]) if len(p[k]) == len(p["ids"]) else p[k] for k in p}
    net = board.Contender("net_1 | A&B", board.answers_of(both, "last"), "last", "last epoch")
    found = board.leaderboard([*two, net], CLASSES, resamples=50)
    found["rows"] = [row | {"synthetic": False} for row in found["rows"]]
    found["group_name"] = "subject"
    written = leaderboard_tables.write_tables(tmp_path, found, "A table", "python launch.py")
    assert [path.exists() for path in written] == [True] * 5
    text = (tmp_path / "leaderboard.md").read_text()
    assert "net_1 \\| A&B" in text
    assert ")*" in next(line for line in text.splitlines() if "net_1" in line)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    named = dict(zip(*(lines[i].strip("| ").split(" | ") for i in (0, 2)), strict=True))
    assert (named["predictor"], named["reads"], named["minutes"]) == ("one", "flow", "2.0")
    assert named["selection"] == "the last epoch"
    with open(tmp_path / "leaderboard.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["predictor"] for row in rows] == ["one", "good", "net_1 | A&B"]
    assert float(rows[1]["uf1"]) == found["rows"][1]["test"]["uf1"]["value"]
    assert rows[1]["difference"] == ""
    for name in ("x", "y"):
        assert float(rows[1][f"uf1_{name}"]) == found["rows"][1]["per_dataset"][name]["value"]
    assert rows[2]["uf1_oracle"]
    assert all(row["selection"] for row in rows)
    tex = (tmp_path / "leaderboard.tex").read_text()
    assert r"net\_1 | A\&B" in tex
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in body}) == 1
