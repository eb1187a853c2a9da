"""Runs side by side: paired differences, McNemar's test, what cannot be compared."""

import numpy as np
import pytest
from scipy.stats import binomtest

from fexpr.errors import UserError
from fexpr.evaluate import __main__ as command
from fexpr.evaluate import evaluate
from fexpr.evaluate.__main__ import main
from fexpr.evaluate.paired import Candidate, compare
from fexpr.evaluate.report.paired_report import unique_names
from fexpr.storage import run
from tests.evaluate.random_predictions import multiclass, multilabel


def candidate(predictions, name="a", selection="last"):
    return Candidate(name, predictions, selection, f"{name}@0")


def shuffled(p):
    """The same rows in another order."""
    order = np.random.default_rng(1).permutation(len(p["ids"]))
    rows = ("ids", "groups", "labels", "logits", "trial", "split", "selection", "dataset")
    return p | {name: p[name][order] for name in rows if name in p}


def test_against_itself_every_difference_is_zero_whatever_the_order_of_rows():
    p = multiclass(subjects=6)
    found = compare([candidate(p), candidate(shuffled(p), "b")], resamples=20)
    (d,) = found["differences"]
    assert (d["agree"], d["mcnemar"]["p"], d["mcnemar"]["only_this"]) == (1.0, 1.0, 0)
    for metric in found["metrics"]:
        assert d[metric]["value"] == pytest.approx(0, abs=1e-12)
        assert d[metric]["high"] == pytest.approx(0, abs=1e-12)


def test_figures_are_those_of_evaluate_and_the_difference_is_paired():
    weak, strong = multiclass(skill=0.5, seeds=(0, 1)), multiclass(skill=2.0)
    found = compare([candidate(weak), candidate(strong, "b")], resamples=200)
    for c, p in zip(found["candidates"], (weak, strong), strict=True):
        assert c["test"]["uf1"] == evaluate(p, "last", "x@0", resamples=200)["test"]["uf1"]
    (d,) = found["differences"]
    a, b = (c["test"]["uf1"] for c in found["candidates"])
    assert d["uf1"]["value"] == pytest.approx(b["value"] - a["value"])
    assert d["uf1"]["low"] > 0
    same = compare(
        [
            candidate(strong),
            candidate(strong | {"logits": strong["logits"] + 0.2 * np.eye(3)[0]}, "b"),
        ],
        resamples=200,
    )
    paired, alone = same["differences"][0]["uf1"], same["candidates"][0]["test"]["uf1"]
    # what both share cancels
    assert paired["high"] - paired["low"] < 0.5 * (alone["high"] - alone["low"])


def test_validation_rows_can_be_compared_without_a_test_row():
    weak, strong = multiclass(skill=0.5), multiclass(skill=2.0)
    tested = np.flatnonzero(strong["split"] == "test")
    broken = strong["logits"].copy()
    broken[tested] = broken[tested][:, ::-1]  # test rows would say the opposite
    found = compare(
        [candidate(weak), candidate(strong | {"logits": broken}, "b")], resamples=50, split="val"
    )
    (d,) = found["differences"]
    assert (found["split"], found["rows"]) == ("val", (weak["split"] == "val").sum())
    assert d["accuracy"]["value"] > 0
    untouched = strong["split"] == "val"
    right = strong["logits"].argmax(-1) == strong["labels"]
    assert found["candidates"][1]["test"]["accuracy"]["value"] == pytest.approx(
        right[untouched].mean()
    )


def test_rows_that_one_of_them_tests_twice():
    p = multiclass(subjects=6)
    twice = np.r_[np.arange(len(p["ids"])), np.flatnonzero(p["split"] == "test")[:2]]
    rows = ("ids", "groups", "labels", "logits", "trial", "split", "selection", "dataset")
    doubled = p | {name: p[name][twice] for name in rows if name in p}
    with pytest.raises(UserError, match="row by row") as e:
        compare([candidate(p), candidate(doubled, "b")], resamples=10)
    shown = ", ".join(f"{i} 2 and 1 times" for i in sorted(p["ids"][twice[-2:]]))
    assert list(e.value.problems) == [f"b: 2 rows are tested more or less often than by a: {shown}"]
    assert (
        compare([candidate(doubled), candidate(doubled, "b")], resamples=10)["differences"][0][
            "agree"
        ]
        == 1.0
    )


def test_mcnemar_counts_the_rows_that_only_one_has_right():
    p, q = multiclass(skill=1.0), multiclass(skill=1.6)
    at = p["split"] == "test"
    order = np.argsort(p["ids"][at])
    right = [(x["logits"][at].argmax(1) == x["labels"][at])[order] for x in (p, q)]
    only_q, only_p = (right[1] & ~right[0]).sum(), (right[0] & ~right[1]).sum()
    (d,) = compare([candidate(p), candidate(q, "b")], resamples=10)["differences"]
    assert d["mcnemar"] == {
        "only_this": only_q,
        "only_first": only_p,
        "p": binomtest(only_q, only_q + only_p).pvalue,
        "seeds": [0, 0],
    }


def test_only_common_rows_count():
    p = multilabel()
    dropped = np.unique(p["ids"][p["split"] == "test"])[:5]
    keep = ~np.isin(p["ids"], dropped)
    fewer = {name: a[keep] if len(a) == len(keep) else a for name, a in p.items()}
    found = compare([candidate(p), candidate(fewer, "b")], resamples=10)
    assert [c["left_out"] for c in found["candidates"]] == [5, 0]
    assert found["candidates"][0]["test"] == found["candidates"][1]["test"]
    assert found["candidates"][0]["reliability"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda p: p | {"class_names": np.array(["negative", "surprise", "positive"])},
            "b: classes negative, surprise, positive",
        ),
        (
            lambda p: p | {"labels": (p["labels"] + (p["ids"] == "7")) % 3},
            "b: labels of 1 of 96 common rows are not those of a, for example 7",
        ),
        (lambda p: p | {"groups": p["ids"]}, "b: groups of 96 of 96"),
        (lambda p: p | {"ids": np.char.add("x", p["ids"])}, "no row is common to all"),
    ],
)
def test_what_cannot_be_compared(change, expected):
    p = multiclass()
    with pytest.raises(UserError) as e:
        compare([candidate(p), candidate(change(p), "b")])
    assert expected in e.value.text()


def test_a_candidate_without_a_row_of_the_split_is_said_to_have_none():
    p = multiclass()
    tested = p | {"split": np.full(len(p["split"]), "test")}
    with pytest.raises(UserError) as e:
        compare([candidate(p), candidate(tested, "b")], split="val")
    assert " val rows, as " in e.value.problems[0]
    assert e.value.problems[1] == "b: no val rows"


@pytest.mark.usefixtures("undrawn")
def test_two_runs_by_the_command(tmp_path, capsys, monkeypatch):
    """What is compared are the runs' own predictions, selections and sources."""
    made = {
        name: multiclass(subjects=3, per_subject=6, skill=skill, selections=("last", "best_val"))
        for name, skill in (("weak", 0.5), ("strong", 2.0))
    }
    measured = evaluate(made["weak"], "best_val", "x@1", resamples=10)
    for name, p in made.items():
        run.write_arrays(tmp_path / name / run.PREDICTIONS, p)
        run.write_json(tmp_path / name / run.METRICS, measured | {"source": f"{name}@1"})
    asked = []
    spy = lambda *given, **options: asked.append((given, options)) or compare(*given, **options)
    monkeypatch.setattr(command, "compare", spy)
    runs = [str(tmp_path / name) for name in made]
    assert main([*runs, "--rows", "val", "--resamples", "20"]) == 0
    ((((weak, strong),), options),) = asked
    assert options == {"resamples": 20, "split": "val"}
    assert (weak.name, weak.selection, weak.source) == ("weak", "best_val", "weak@1")
    assert (strong.name, strong.source) == ("strong", "strong@1")
    np.testing.assert_array_equal(strong.predictions["logits"], made["strong"]["logits"])
    out = tmp_path / "comparison"
    assert run.read_json(out / "comparison.json")["split"] == "val"
    printed = capsys.readouterr().out
    assert f"report     {out / 'comparison.html'}" in printed
    assert "SYNTHETIC" not in printed
    metrics = tmp_path / "strong" / run.METRICS
    run.write_json(metrics, run.read_json(metrics) | {"source": "synthetic"})
    assert main([*runs, "--resamples", "20"]) == 0
    assert "SYNTHETIC DATA" in capsys.readouterr().out
    for wrong in (
        [runs[0], "--rows", "val"],
        [*runs, "--val", "x.csv"],
        [*runs, "--labels=a"],
    ):
        assert main(wrong) == 2
    with pytest.raises(SystemExit, match="2"):
        main([*runs, "--resamples", "9"])
    assert main([runs[0], str(tmp_path)]) == 2
    assert "contains no finished run" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_two_runs_of_action_units_have_no_reliability_curves(tmp_path, capsys):
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", **multilabel())
    assert (
        main([str(tmp_path / f"{name}.npz") for name in ("one", "two")] + ["--resamples=20"]) == 0
    )
    assert "reliability" not in (tmp_path / "comparison" / "comparison.html").read_text().lower()


@pytest.mark.long
def test_command_line(tmp_path, capsys):
    for name, skill in (("weak", 0.5), ("strong", 2.0)):
        p = multiclass(skill=skill)
        run.write_arrays(tmp_path / name / run.PREDICTIONS, p)
        measured = evaluate(p, "last", "synthetic", resamples=10)
        run.write_json(tmp_path / name / run.METRICS, measured)
    runs = [str(tmp_path / name) for name in ("weak", "strong")]
    assert main([*runs, "--resamples", "50"]) == 0
    out = tmp_path / "comparison"
    assert {f.name for f in out.iterdir()} == {"comparison.json", "comparison.html", "figures"}
    assert {f.name for f in (out / "figures").iterdir()} == {
        "paired.png",
        "f1_by_class.png",
        "reliability.png",
    }
    printed, page = capsys.readouterr().out, (out / "comparison.html").read_text(encoding="utf-8")
    assert "Higher: the UF1 of strong minus that of weak" in printed
    assert "UF1 less weak" in printed
    assert "SYNTHETIC DATA" in printed
    assert "Higher: the UF1 of strong minus that of weak" in page
    assert "SYNTHETIC DATA" in page
    assert main([*runs, "--rows", "val", "--resamples", "50"]) == 0
    assert "validation rows that all of them have" in capsys.readouterr().out
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "common validation rows" in page
    assert "test rows" not in page
    assert main([runs[0], "--rows", "val"]) == 2
    assert main([*runs, "--val", "x.csv"]) == 2
    assert main([runs[0], str(tmp_path)]) == 2
    assert "contains no finished run" in capsys.readouterr().err
    assert main([runs[0], "--resamples", "10"]) == 0  # a run directory alone: its report
    assert (tmp_path / "weak_report" / "report.html").is_file()


def test_names_are_as_short_as_tells_them_apart(tmp_path):
    assert unique_names([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]
    assert unique_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]
