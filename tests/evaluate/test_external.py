"""python -m fexpr.evaluate on files of other programs: the same figures, or every fault at once."""

import csv
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from fexpr.errors import UserError
from fexpr.evaluate import calibration, evaluate, external
from fexpr.evaluate.__main__ import main
from fexpr.evaluate.external import read_predictions
from fexpr.storage import run
from tests.evaluate.random_predictions import FER_CLASSES, multilabel, pictures
from tests.recognizer.runs import stored


@pytest.fixture(scope="module")
def case():
    """Logits, labels and split of one selection."""
    p = pictures(selections=("last",), val=80, test=120)
    return p["logits"], p["labels"], p["split"], p


def write_csv(path, values, labels, prefix="p_", names=FER_CLASSES, **columns):
    with open(path, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow([*columns, "note", "label", *[prefix + name for name in names]])
        for i, (row, label) in enumerate(zip(values, labels, strict=True)):
            writer.writerow(
                [*(c[i] for c in columns.values()), "-", label, *(repr(float(v)) for v in row)]
            )
    return path


def problems_of(path, **keywords):
    with pytest.raises(UserError) as e:
        read_predictions(path, **keywords)
    return e.value.text()


def test_every_layout_gives_the_figures_of_a_run(case, tmp_path):
    z, labels, split, p = case
    expected = evaluate(p, "last", "x@0", resamples=10)
    names, probabilities = np.array(FER_CLASSES), calibration.probabilities(z, False)
    np.savez(tmp_path / "logits.npz", logits=z, labels=labels, split=split, class_names=names)
    np.savez(
        tmp_path / "named.npz",
        probabilities=probabilities,
        labels=names[labels],
        split=split,
        class_names=names,
    )
    write_csv(tmp_path / "p.csv", probabilities, names[labels], split=split, id=p["ids"])
    write_csv(tmp_path / "l.csv", z, labels, "logit_", split=split)
    for name, at in (("test", split == "test"), ("val", split == "val")):
        write_csv(tmp_path / f"{name}.csv", probabilities[at], labels[at], id=p["ids"][at])
    np.savez(tmp_path / "run.npz", **p)
    by_id = np.argsort(p["ids"])
    for file in ("logits.npz", "named.npz", "p.csv", "l.csv", "test.csv", "run.npz"):
        val = "val.csv" if file == "test.csv" else None
        read = read_predictions(tmp_path / file, val and tmp_path / val)
        # files without ids keep the order of their rows
        order = np.argsort(read["ids"]) if file in ("p.csv", "test.csv", "run.npz") else ...
        same = by_id if order is not ... else ...
        np.testing.assert_array_equal(read["labels"][order], labels[same])
        np.testing.assert_array_equal(read["split"][order], split[same])
        np.testing.assert_allclose(
            calibration.probabilities(read["logits"], False)[order], probabilities[same], atol=1e-6
        )
        if file not in ("p.csv", "run.npz"):
            continue
        found = evaluate(read, "last", "x@0", resamples=10)
        for key in ("accuracy", "macro_f1", "nll", "ece", "roc_auc"):
            assert found["test"][key]["value"] == pytest.approx(
                expected["test"][key]["value"], abs=1e-6
            ), (file, key)
        after, before = (r["calibration"]["temperature"]["ece"]["value"] for r in (found, expected))
        assert after == pytest.approx(before, abs=1e-6)
        assert [row["name"] for row in found["per_class"]] == list(FER_CLASSES)
        assert found["counts_from"] == ("training" if file == "run.npz" else "validation")


def test_numbers_that_stand_for_missing_ids_are_not_those_of_another_file(case, tmp_path):
    z, labels, _, _ = case
    write_csv(tmp_path / "test.csv", z[:20], labels[:20], "logit_")
    numbered = read_predictions(tmp_path / "test.csv")["ids"]
    write_csv(tmp_path / "val.csv", z[20:40], labels[20:40], "logit_", id=numbered)
    found = read_predictions(tmp_path / "test.csv", tmp_path / "val.csv")
    assert sorted(found["split"]) == ["test"] * 20 + ["val"] * 20
    write_csv(tmp_path / "test.csv", z[:20], labels[:20], "logit_", id=numbered)
    assert "20 ids are also in" in problems_of(tmp_path / "test.csv", val=tmp_path / "val.csv")


def test_command_line(case, tmp_path, capsys, undrawn):
    z, labels, split, _ = case
    at = split == "test"
    write_csv(
        tmp_path / "mine.csv",
        calibration.probabilities(z, False)[at],
        labels[at],
        group=[f"s{i % 5}" for i in range(120)],
    )
    assert (
        main([str(tmp_path / "mine.csv"), "--resamples", "20", "--labels", "a,b,c,d,e,f,<g>"]) == 0
    )
    out = tmp_path / "mine_report"
    assert {f.name for f in out.iterdir()} == {"metrics.json", "figures", "report.html"}
    metrics, page = (
        run.read_json(out / "metrics.json"),
        (out / "report.html").read_text(encoding="utf-8"),
    )
    assert metrics["counts_from"] == "test"
    assert metrics["groups"]["test"] == 5
    assert "no validation rows" in metrics["calibration"]["unavailable"]
    assert metrics["calibration"]["unavailable"] in page
    assert "mine.csv: 7 classes" in page
    assert "&lt;g&gt;" in page
    assert "<g>" not in page
    assert "epoch" not in page.replace("epochs", "")
    printed = capsys.readouterr().out
    assert f"{metrics['test']['accuracy']['value']:.3f}" in printed
    assert printed.rstrip().endswith("report.html")
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "mine.csv"), "--out", str(tmp_path / "new"), "--resamples", "3"])
    run.write_json(tmp_path / "run" / run.CONFIG, {})
    assert main([str(tmp_path / "mine.csv"), "--out", str(tmp_path / "run")]) == 2
    assert "contains a run of fexpr" in capsys.readouterr().err


def test_saved_predictions_of_a_run(tmp_path, capsys):
    np.savez(tmp_path / "predictions.npz", **multilabel())
    assert (
        main(
            [
                str(tmp_path / "predictions.npz"),
                "--resamples",
                "20",
                "--selection",
                "last",
                "--out",
                str(tmp_path / "o"),
            ]
        )
        == 0
    )
    found = run.read_json(tmp_path / "o" / "metrics.json")
    assert found["selection"] == "last"
    assert found["test"] == evaluate(multilabel(), "last", "x@0", resamples=20)["test"]
    capsys.readouterr()
    np.savez(tmp_path / "predictions.npz", **multilabel() | {"ids": np.array(["a"])})
    assert main([str(tmp_path / "predictions.npz")]) == 2
    assert "ids: 1 entries, expected" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("source", ["synthetic", "samm@1"])
def test_predictions_of_a_synthetic_run_say_so_outside_it_too(tmp_path, source, capsys):
    np.savez(tmp_path / "predictions.npz", **multilabel())
    folder = stored(tmp_path)
    config = run.read_json(folder / run.CONFIG)
    run.write_json(tmp_path / run.CONFIG, config | {"data": config["data"] | {"source": source}})
    out = tmp_path / "out"
    typed = [str(tmp_path / "predictions.npz"), "--resamples", "20", "--out", str(out)]
    assert main(typed) == 0
    told = source == "synthetic"
    assert ("SYNTHETIC" in capsys.readouterr().out) == told
    assert ("SYNTHETIC" in (out / "report.html").read_text(encoding="utf-8")) == told


def test_it_needs_no_jax():
    code = (
        "import fexpr.evaluate.__main__, fexpr.evaluate.recalibration, sys; print('jax' in "
        "sys.modules, 'flax' in sys.modules)"
    )
    assert subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split() == ["False", "False"]


def test_all_faults_of_a_csv_at_once(case, tmp_path):
    z, labels, _, _ = case
    p = calibration.probabilities(z, False)[:40]
    p[3] *= 0.9
    p[5, 0] = np.nan
    p[7] = [-0.5, 1.5, 0, 0, 0, 0, 0]
    truth = labels[:40].astype(object)
    truth[9], truth[11] = 7, "joy"
    path = write_csv(tmp_path / "x.csv", p, truth, split=["test"] * 12 + ["train"] * 28)
    path.write_text(path.read_text().replace("nan", "abc") + "test,-,1\n")
    text = problems_of(path)
    for expected in (
        "line 42: 3 fields, the header has 10",
        "line 7, p_angry: 'abc' is no number",
    ):
        assert expected in text
    path.write_text(path.read_text().replace("abc", "inf").replace("test,-,1\n", ""))
    text = problems_of(path)
    for expected in (
        "line 7: probabilities hold NaN or infinity",
        "line 5 (sum 0.9000): probabilities do not sum to 1",
        "line 9: probabilities below 0",
        "lines 11 (7), 13 (joy): label is neither a class id from 0 to 6 nor one of angry",
        "lines 14 (train), 15 (train)",
        "and 20 more: split is neither 'val' nor 'test'",
        "--help",
    ):
        assert expected in text


def test_faults_of_an_npz(case, tmp_path):
    z, labels, split, _ = case
    path, p = tmp_path / "x.npz", calibration.probabilities(z, False)

    def refused(*expected, **arrays):
        np.savez(path, **arrays)
        text = problems_of(path)
        for words in expected:
            assert words in text

    refused(
        "rows 0, 1: logits hold NaN",
        logits=np.where(np.arange(200)[:, None] < 2, np.inf, z),
        labels=labels,
    )
    refused("row 4 (9): label", logits=z, labels=np.where(np.arange(200) == 4, 9, labels))
    refused("row 4 (2.5): label", logits=z, labels=np.where(np.arange(200) == 4, 2.5, labels))
    refused("labels have the shape (200,), expected (7,)", "transposed", logits=z.T, labels=labels)
    refused(
        "labels have the shape (200, 7)",
        "split have the shape (3,)",
        logits=z,
        labels=np.eye(7)[labels],
        split=np.array(["val"] * 3),
    )
    refused(
        "3 class names (a, b, c), logits have 7 columns",
        logits=z,
        labels=labels,
        class_names=np.array(["a", "b", "c"]),
    )
    refused(
        "either logits or probabilities, found labels, logits, probabilities",
        logits=z,
        probabilities=p,
        labels=labels,
    )
    refused("no row is a test row", logits=z, labels=labels, split=np.full(200, "val"))
    refused(
        "groups have validation and test rows",
        logits=z,
        labels=labels,
        split=split,
        groups=np.full(200, "s"),
    )
    refused("shape (1,)", logits=np.array(3.0), labels=labels)
    over_rows = np.exp(z.astype(float)) / np.exp(z.astype(float)).sum(axis=0)
    refused(
        "do not sum to 1; the columns do: the softmax was taken over the rows",
        probabilities=over_rows,
        labels=labels,
    )


def test_a_link_to_itself(tmp_path, capsys):
    (tmp_path / "p.csv").symlink_to("p.csv")
    assert main([str(tmp_path / "p.csv")]) == 2
    assert "p.csv is a broken link" in capsys.readouterr().err


def test_nothing_is_unpickled(case, tmp_path):
    z, labels, _, _ = case
    np.savez(
        tmp_path / "x.npz",
        logits=z,
        labels=labels,
        class_names=np.array(list(FER_CLASSES), dtype=object),
    )
    assert "never opened" in problems_of(tmp_path / "x.npz")
    assert "class_names" in problems_of(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(b"\x80\x04]\x94.")
    assert "is not an .npz archive" in problems_of(tmp_path / "y.npz")
    (tmp_path / "z.pkl").write_bytes(b"\x80\x04]\x94.")
    assert "cannot be read" in problems_of(tmp_path / "z.pkl")
    assert "there is no file" in problems_of(tmp_path / "none.csv")


def test_a_row_that_is_given_twice_is_named(case, tmp_path):
    z, labels, _, p = case
    ids = p["ids"].copy()
    ids[[3, 7]] = ids[2]
    path = write_csv(tmp_path / "twice.csv", z, labels, "logit_", id=ids)
    assert f"lines 5 ({ids[2]}), 9 ({ids[2]}): the id of an earlier row" in problems_of(path)


def test_a_table_of_very_many_columns_is_answered_at_once(tmp_path):
    path, count = tmp_path / "wide.csv", 60_000
    header = ["label", "p_a", "p_b", *(f"x{i}" for i in range(count)), "x7"]
    row = ["a", "0.5", "0.5", *["1"] * (count + 1)]
    path.write_text(f"{','.join(header)}\n{','.join(row)}\n")
    before = time.process_time()
    assert "column x7 occurs 2 times" in problems_of(path)
    assert time.process_time() - before < 5
    np.savez(path.with_suffix(".npz"), logits=np.zeros((2, 1001)), labels=np.zeros(2, int))
    assert "1,001 classes, at most 1,000" in problems_of(path.with_suffix(".npz"))


def test_validation_file_must_be_other_rows_of_the_same_classes(case, tmp_path):
    z, labels, _, p = case
    test = write_csv(tmp_path / "test.csv", z, labels, "logit_", id=p["ids"])
    assert "the same rows as in test.csv" in problems_of(test, val=test)
    shared = write_csv(tmp_path / "val.csv", z[:50] + 1, labels[:50], "logit_", id=p["ids"][:50])
    assert "val.csv: 50 ids are also in test.csv" in problems_of(test, val=shared)
    said = write_csv(
        tmp_path / "said.csv",
        z[:50] + 1,
        labels[:50],
        "logit_",
        id=np.arange(50),
        split=["test"] * 50,
    )
    assert "'val' throughout said.csv" in problems_of(test, val=said)
    np.savez(tmp_path / "other.npz", logits=z[:, :5], labels=labels % 5)
    assert "other classes (5) than test.csv (angry" in problems_of(test, val=tmp_path / "other.npz")
    np.savez(tmp_path / "run.npz", **p)
    assert "leave out --val" in problems_of(tmp_path / "run.npz", val=test)


def test_a_probability_of_zero_is_told(case, tmp_path, capsys):
    labels = case[1][:60]
    p = np.full((60, 7), 1 / 7)
    p[0] = np.eye(7)[(labels[0] + 1) % 7]
    np.savez(tmp_path / "x.npz", probabilities=p, labels=labels)
    assert main([str(tmp_path / "x.npz"), "--resamples", "10"]) == 0
    assert re.search(
        r"\b1 rows give their true class a probability of exactly 0", capsys.readouterr().out
    )
    assert "1 rows give their true class" in (tmp_path / "x_report" / "report.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("form", ["{}", "{}.0", " {} "])
@pytest.mark.parametrize("lowest", [1, 2])
def test_names_that_cover_the_labels_decide_however_they_are_written(tmp_path, form, lowest, case):
    z, labels, split, _ = case
    kept = (labels >= lowest - 1) & ((labels < 6) | (lowest == 1))
    numbered = [f"{k + 1}" for k in range(7)]
    path = write_csv(
        tmp_path / "one.csv",
        z[kept],
        [form.format(y + 1) for y in labels[kept]],
        "logit_",
        names=numbered,
        split=split[kept],
    )
    found = read_predictions(path)
    np.testing.assert_array_equal(found["labels"], labels[kept])
    # without a 7 they could be ids as well
    assert bool(found["notes"].size) == (lowest == 2)
    np.savez(
        tmp_path / "one.npz",
        logits=z[kept],
        labels=labels[kept] + 1.0,
        class_names=np.array(numbered),
        split=split[kept],
    )
    np.testing.assert_array_equal(read_predictions(tmp_path / "one.npz")["labels"], labels[kept])


def test_numbers_that_are_no_names_are_ids_and_two_files_agree_on_it(tmp_path, case):
    z, labels, split, _ = case
    numbered, at = [f"{k + 1}" for k in range(7)], split == "test"
    path = write_csv(tmp_path / "ids.csv", z[at], labels[at], "logit_", names=numbered)
    np.testing.assert_array_equal(read_predictions(path)["labels"], labels[at])
    val = write_csv(tmp_path / "val.csv", z[~at], labels[~at] + 1, "logit_", names=numbered)
    assert "write names in both" in problems_of(path, val=val)


def test_names_in_another_order_than_the_columns_are_refused(tmp_path, case):
    z, labels, *_ = case
    path = write_csv(tmp_path / "p.csv", z, labels, "logit_")
    turned = ["happy", "angry", *FER_CLASSES[1:3], *FER_CLASSES[4:]]
    text = problems_of(path, class_names=[name.title() for name in turned])
    assert "in another order (Happy, Angry" in text
    other = [f"class {k}" for k in range(7)]
    assert read_predictions(path, class_names=other)["class_names"].tolist() == other


@pytest.mark.parametrize("factor", [1e5, 1e200])
def test_large_logits_are_measured_and_their_notes_are_about_probabilities(tmp_path, case, factor):
    z, labels, split = case[0].astype(float), *case[1:3]
    shift = np.linspace(-50, 50, len(z))[:, None]  # of a row's logits means nothing
    np.savez(tmp_path / "shifted.npz", logits=z + shift, labels=labels, split=split)
    assert external.notes(read_predictions(tmp_path / "shifted.npz")) == []
    np.savez(tmp_path / "large.npz", logits=factor * z, labels=labels, split=split)
    found = read_predictions(tmp_path / "large.npz")
    (note,) = external.notes(found)
    wrong = int((z.argmax(axis=1) != labels).sum())
    assert note.startswith(f"{wrong:,} rows give their true class a probability below")
    assert "100% of the negative log likelihood" in note
    np.savez(tmp_path / "huge.npz", logits=1e305 * z, labels=labels, split=split)
    assert "logits beyond 1e+300" in problems_of(tmp_path / "huge.npz")
