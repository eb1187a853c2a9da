"""Late fusion of runs and seeds: posteriors by hand, a run chosen by validation rows alone, and
runs that do not fit.
"""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fexpr.errors import UserError
from fexpr.evaluate import evaluate
from fexpr.evaluate.fusion import fuse, mixture_weights

ROWS, K = 12, 3


def predictions(seed, skill=0.0, seeds=2, good=()):
    """Two folds of six rows; each fold's validation rows are two of the other's. `good`: folds
    whose validation rows are all right.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(ROWS) % K
    parts = []
    for repeat in range(seeds):
        for fold in range(2):
            test, val = (
                np.arange(6) + 6 * fold,
                np.arange(2 * repeat, 2 * repeat + 2) + 6 * (1 - fold),
            )
            for split, rows in (("test", test), ("val", val)):
                logits = rng.normal(size=(len(rows), K)) + skill * np.eye(K)[labels[rows]]
                logits += 20 * np.eye(K)[labels[rows]] * (split == "val" and fold in good)
                parts.append(
                    (rows, logits, np.full(len(rows), 2 * repeat + fold), np.full(len(rows), split))
                )
    rows, logits, trial, split = (np.concatenate(p) for p in zip(*parts, strict=True))
    return {
        "ids": np.array([f"r{r:02d}" for r in rows]),
        "groups": np.array([f"g{r // 3}" for r in rows]),
        "labels": labels[rows],
        "logits": logits.astype(np.float32),
        "trial": trial,
        "split": split,
        "selection": np.full(len(rows), "last"),
        "class_names": np.array(["a", "b", "c"]),
        "trial_fold": np.tile([0, 1], seeds),
        "trial_seed": np.repeat(np.arange(seeds), 2),
        "fold_names": np.array(["one", "two"]),
        "failed": np.zeros(2 * seeds, bool),
        "train_positives": np.ones((2 * seeds, K)),
        "train_rows": np.full(2 * seeds, 4),
    }


@pytest.mark.parametrize("rule", ["mean", "product"])
def test_posteriors_are_averaged_over_seeds_then_runs(rule):
    runs = {"x": predictions(0), "y": predictions(1, seeds=3)}
    found, chosen = fuse(runs, "last", rule)
    assert not chosen
    assert evaluate(found, "last", "synthetic", resamples=10)["rows"]["test"] == ROWS
    for name in ("r02", "r09"):
        each = []
        for p in runs.values():
            of = p["logits"][(p["ids"] == name) & (p["split"] == "test")].astype(float)
            each.append(
                log_softmax(of, axis=1).mean(0)
                if rule == "product"
                else np.log(softmax(of, axis=1).mean(0))
            )
        each = np.array(each)
        wanted = (
            log_softmax(log_softmax(each, axis=1).mean(0))
            if rule == "product"
            else np.log(softmax(each, axis=1).mean(0))
        )
        got = found["logits"][(found["ids"] == name) & (found["split"] == "test")]
        np.testing.assert_allclose(log_softmax(got, axis=1), wanted[None], atol=1e-6)
    rows = found["split"] == "val"
    assert len(found["ids"][rows]) == 8  # those that both runs have, of either fold


def test_a_fold_takes_the_run_that_its_own_validation_rows_prefer():
    x, y = predictions(0, good=(0,)), predictions(1, good=(1,))
    found, chosen = fuse({"x": x, "y": y}, "last", choose="nll")
    assert chosen == {"one": "x", "two": "y"}
    spoiled = {
        name: p | {"logits": p["logits"] * np.where(p["split"] == "test", -1, 1)[:, None]}
        for name, p in (("x", x), ("y", y))
    }
    assert fuse(spoiled, "last", choose="nll")[1] == chosen  # test rows have no say
    alone = fuse({"x": x}, "last")[0]
    first = (found["trial"] == 0) & (found["split"] == "test")
    np.testing.assert_array_equal(
        found["logits"][first], alone["logits"][(alone["trial"] == 0) & (alone["split"] == "test")]
    )


def test_runs_that_do_not_fit_are_named():
    x, y = predictions(0), predictions(1)
    other = y | {"labels": (y["labels"] + 1) % K}
    with pytest.raises(UserError, match=r"y: .*folds.*rows"):
        fuse({"x": x, "y": other}, "last")
    with pytest.raises(UserError, match=r"y: .*classes.* x"):
        fuse({"x": x, "y": y | {"class_names": np.array(["a", "b", "d"])}}, "last")
    with pytest.raises(UserError, match=r"1 of .*trials failed"):
        fuse({"x": x | {"failed": np.array([True, False, False, False])}}, "last")
    with pytest.raises(UserError, match=r"'sum'.*\n.*'mean'"):
        fuse({"x": x}, "last", "sum")


def test_weights_are_those_of_the_highest_likelihood():
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(60, int), np.ones(20, int), np.full(10, 2)]
    posteriors = softmax(
        rng.normal(size=(3, 90, K)) + np.array([2.0, 1.0, 0.0])[:, None, None] * np.eye(K)[labels],
        axis=2,
    )
    found = mixture_weights(posteriors, labels)

    def likelihood(weights):
        said = np.tensordot(weights, posteriors, 1)[np.arange(90), labels]
        return np.mean([np.log(said[labels == k]).mean() for k in range(K)])

    best = minimize(
        lambda free: -likelihood(softmax([*free, 0])), np.zeros(2), tol=1e-12, method="BFGS"
    )
    np.testing.assert_allclose(found, softmax([*best.x, 0]), atol=2e-3)
    assert found.sum() == pytest.approx(1)
    alone = mixture_weights(np.stack([posteriors[0], 1 - posteriors[0]]), labels)
    assert alone[1] < alone[0]


def test_weights_come_from_the_folds_own_validation_rows():
    x, y = predictions(0, good=(0,)), predictions(1, good=(1,))
    found, chosen = fuse({"x": x, "y": y}, "last", choose="weights")
    assert chosen["one"].startswith("1.00 x")
    assert chosen["two"].endswith("1.00 y")
    spoiled = {
        name: p | {"logits": p["logits"] * np.where(p["split"] == "test", -1, 1)[:, None]}
        for name, p in (("x", x), ("y", y))
    }
    assert fuse(spoiled, "last", choose="weights")[1] == chosen
    alone = fuse({"x": x}, "last")[0]
    mine = (found["trial"] == 0) & (found["split"] == "test")
    np.testing.assert_allclose(
        softmax(found["logits"][mine], axis=1),
        softmax(alone["logits"][(alone["trial"] == 0) & (alone["split"] == "test")], axis=1),
        atol=1e-2,
    )


def test_runs_of_different_selections():
    x, y = predictions(0), predictions(1)
    y = y | {"selection": np.full(len(y["ids"]), "best_val")}
    found, _ = fuse({"x": x, "y": y}, {"x": "last", "y": "best_val"})
    assert set(found["selection"]) == {"best_val"}
    with pytest.raises(UserError, match="no selection"):
        fuse({"x": x, "y": y}, "last")


def test_no_validation_row_in_common():
    x, y = predictions(0, seeds=1), predictions(1, seeds=1)
    keep = ~((y["split"] == "val") & np.isin(y["ids"], x["ids"][x["split"] == "val"]))
    y = {name: value[keep] if len(value) == len(keep) else value for name, value in y.items()}
    with pytest.raises(UserError, match=r"fold .* no validation row"):
        fuse({"x": x, "y": y}, "last", choose="weights")
