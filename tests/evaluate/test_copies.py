"""Results with and without the test rows that were seen in training."""

import numpy as np
import pytest

from fexpr.evaluate import evaluate
from fexpr.evaluate.report import findings
from tests.evaluate import random_predictions

SELECTIONS = ("last", "best_val", "oracle")


def marked(share=0.4, **options):
    """Predictions with copies among the test rows, the same under every selection."""
    p = random_predictions.multiclass(selections=SELECTIONS, **options)
    kind = dict(
        zip(
            np.unique(p["ids"]),
            np.random.default_rng(1).choice(
                ["", "exact", "near", "mirrored"],
                len(np.unique(p["ids"])),
                p=[1 - share, share / 2, share / 4, share / 4],
            ),
            strict=True,
        )
    )
    p["copy"] = np.array([kind[i] for i in p["ids"]])
    return p


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_figures_are_those_of_the_rows_that_are_left(seeds):
    p = marked(seeds=seeds)
    found = evaluate(p, "last", "toy@1", resamples=50)["copies"]
    mine = (p["selection"] == "last") & (p["split"] == "test")
    right, kind = (p["logits"].argmax(1) == p["labels"])[mine], p["copy"][mine]
    assert found["rows"] == {
        "all": len(kind) // len(seeds),
        **{k: (kind == k).sum() // len(seeds) for k in ("exact", "near", "mirrored")},
    }
    for name, rows in (
        ("without_exact", kind != "exact"),
        ("without_near", kind == ""),
        ("only", kind != ""),
    ):
        accuracy = found[name]["accuracy"]
        assert accuracy["value"] == pytest.approx(right[rows].mean())
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        assert 0 < found[name]["macro_f1"]["value"] < 1


def test_unknown_or_none():
    p = marked()
    del p["copy"]
    metrics = evaluate(p, "last", "toy@1", resamples=20)
    assert metrics["copies"] == {}
    assert findings.copies(metrics) == ""
    p["copy"] = np.full(len(p["ids"]), "", "U8")
    metrics = evaluate(p, "last", "toy@1", resamples=20)
    assert metrics["copies"].keys() == {"rows"}
    assert findings.copies(metrics) == ""


def test_where_every_row_is_a_copy_nothing_is_left():
    p = marked()
    p["copy"] = np.full(len(p["ids"]), "exact")
    metrics = evaluate(p, "last", "toy@1", resamples=20)
    assert metrics["copies"].keys() == {"rows", "only"}
    assert findings.copies(metrics) == ""
    assert [words for words, _, _ in findings.copies_in_rows(metrics)] == ["all", "copies alone"]


def test_the_column_must_fit():
    p = marked()
    p["copy"] = p["copy"][:-1]
    with pytest.raises(ValueError, match="copy: "):
        evaluate(p, "last", "toy@1", resamples=20)
