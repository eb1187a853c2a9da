"""Clips decided by their frames: every rule by hand, what it may look at, and clips as rows of an
evaluation.
"""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from fexpr.errors import UserError
from fexpr.evaluate import evaluate
from fexpr.evaluate.clip_rules import RULES, compare, decide, of_frames
from fexpr.evaluate.recalibration import fit_temperature

K = 3


def predictions(seed=0, frames=6, clips=8):
    """One trial; clips c0 to c3 are tested, c4 to c7 validate; two actors each."""
    rng = np.random.default_rng(seed)
    clip = np.repeat(np.arange(clips), frames)
    labels = clip % K
    logits = rng.normal(size=(len(clip), K)) + 0.8 * np.eye(K)[labels]
    order = rng.permutation(len(clip))  # frames of a clip need not stand together
    return {
        "ids": np.array([f"c{c}/{i % frames}" for i, c in enumerate(clip)])[order],
        "video": np.array([f"c{c}" for c in clip])[order],
        "groups": np.array([f"actor{c // 2}" for c in clip])[order],
        "labels": labels[order],
        "logits": logits[order].astype(np.float32),
        "trial": np.zeros(len(clip), int),
        "split": np.where(clip < clips // 2, "test", "val")[order],
        "selection": np.full(len(clip), "last"),
        "class_names": np.array(["x", "y", "z"]),
        "train_positives": np.full((1, K), 9.0),
        "train_rows": np.array([27]),
        "trial_fold": np.array([0]),
        "trial_seed": np.array([0]),
        "fold_names": np.array(["all"]),
        "failed": np.array([False]),
    }


def of_clip(found, name="c1"):
    (row,) = np.flatnonzero(found["ids"] == name)
    return found["logits"][row]


def test_rules_by_hand():
    p = predictions()
    mine, val = p["video"] == "c1", p["split"] == "val"
    posteriors, seen = (
        softmax(p["logits"][mine].astype(float), axis=1),
        softmax(p["logits"][val].astype(float), axis=1),
    )
    said = posteriors.argmax(1)[:, None] == np.arange(K)
    expected = {
        "sum": posteriors.mean(0),
        "vote": said.mean(0),
        "weighted_vote": 0.5 * said.mean(0)
        + 0.5 * (said * posteriors).sum(0) / (said * posteriors).sum(),
        "centred": np.maximum(posteriors.mean(0) - seen.mean(0) + 1 / K, 1e-6),
    }
    for rule, wanted in expected.items():
        np.testing.assert_allclose(np.exp(of_clip(decide(p, rule))), wanted, atol=2e-6)
    np.testing.assert_allclose(
        of_clip(decide(p, "zscored")), (posteriors.mean(0) - seen.mean(0)) / seen.std(0), rtol=1e-4
    )
    np.testing.assert_allclose(of_clip(decide(p, "product")), np.log(posteriors).sum(0), rtol=1e-4)


def test_the_published_vote_counts():
    """Half the number of frames that name a class, half their mean confidence: the number decides,
    confidence only between classes of as many frames. The shares of weighted_vote weigh alike.
    """
    posteriors = np.array([[0.98, 0.01, 0.01]] * 2 + [[0.30, 0.36, 0.34]] * 3)
    p = predictions(frames=5)
    row = p["video"] == "c1"
    logits = p["logits"].copy()
    logits[row] = np.log(posteriors)
    p = p | {"logits": logits}
    score = np.array([0.5 * 2 + 0.5 * 0.98, 0.5 * 3 + 0.5 * 0.36, 0.0])
    found = np.exp(of_clip(decide(p, "count_vote")))
    np.testing.assert_allclose(found, score / score.sum(), atol=2e-6)
    assert found.argmax() == 1
    assert of_clip(decide(p, "weighted_vote")).argmax() == 0


def test_the_z_score_divides():
    """What Díez Benito's code calls a z-score never divides: with a class of wide spread the two
    name different classes.
    """
    p = predictions(3, frames=30)
    centred, zscored = (decide(p, rule)["logits"].argmax(1) for rule in ("centred", "zscored"))
    assert (centred != zscored).any() or not np.allclose(
        decide(p, "centred")["logits"], decide(p, "zscored")["logits"]
    )


def test_temperature_comes_from_validation_frames_alone():
    p = predictions(1)
    wild = p | {"logits": np.where((p["split"] == "test")[:, None], p["logits"], 10 * p["logits"])}
    a, b = (decide(q, "calibrated") for q in (p, wild))
    assert not np.allclose(of_clip(a), of_clip(b))  # other validation frames, another temperature
    changed = p | {"labels": np.where(p["split"] == "test", (p["labels"] + 1) % K, p["labels"])}
    for rule in RULES:  # labels of test rows have no say in any rule
        np.testing.assert_array_equal(of_clip(decide(p, rule)), of_clip(decide(changed, rule)))


def test_clips_are_rows_of_an_evaluation():
    p = predictions()
    found = decide(p, "sum")
    assert sorted(found["ids"]) == [f"c{i}" for i in range(8)]
    metrics = evaluate(found, "last", "synthetic", resamples=20)
    assert metrics["rows"]["test"] == 4
    table = compare(p, "last", resamples=20)
    assert set(table) == set(RULES)
    assert table["sum"]["accuracy"]["value"] == metrics["test"]["accuracy"]["value"]
    alone = of_frames(p, "last", 50)
    val = p["split"] == "val"
    assert alone["temperature"] == [
        fit_temperature(p["logits"][val], p["labels"][val], p["split"][val]).temperature
    ]
    seen = softmax(p["logits"][val].astype(float), axis=1)
    np.testing.assert_allclose(alone["posteriors"][0]["mean"], seen.mean(axis=0))
    np.testing.assert_allclose(alone["posteriors"][0]["deviation"], seen.std(axis=0))
    test = p["split"] == "test"
    assert np.isclose(
        alone["accuracy"]["value"], (p["logits"].argmax(1) == p["labels"])[test].mean()
    )
    assert alone["accuracy"]["low"] <= alone["accuracy"]["value"] <= alone["accuracy"]["high"]


def test_dropped_frames_have_no_say():
    p = predictions()
    kept = (p["video"] != "c1") | np.isin(p["ids"], ["c1/2", "c1/4"])
    rows = np.isin(p["ids"], ["c1/2", "c1/4"])
    wanted = np.log(np.exp(log_softmax(p["logits"][rows].astype(float), axis=1)).mean(0))
    np.testing.assert_allclose(of_clip(decide(p, "sum", kept)), wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"clip .*no frame"):
        decide(p, "sum", p["video"] != "c1")


def test_what_cannot_be_decided():
    p = predictions()
    with pytest.raises(ValueError, match="several labels"):
        decide(p | {"labels": np.arange(len(p["labels"])) % K})
    with pytest.raises(UserError, match=r"no .*rule.* 'max'"):
        decide(p, "max")
    failed = decide(p | {"logits": np.full_like(p["logits"], np.nan)})
    assert np.isnan(failed["logits"]).all()
