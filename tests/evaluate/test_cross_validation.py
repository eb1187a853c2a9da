"""Folds are pooled, seeds are averaged, subjects are resampled, failed trials count."""

import time

import numpy as np
import pytest
import sklearn.metrics as sk

from fexpr.evaluate import evaluate
from fexpr.evaluate.bootstrap import interval, resample_weights
from fexpr.storage import run
from tests.evaluate.random_predictions import multiclass, multilabel

SEEDS = (3, 7, 11)
ALL = ("last", "best_val", "oracle")


@pytest.fixture(scope="module")
def predictions():
    return multiclass(seeds=SEEDS, selections=ALL)


@pytest.fixture(scope="module")
def result(predictions):
    return evaluate(predictions, "best_val", "megc2019@0", resamples=200)


def pool(p, selection, seed, split="test", keep=None):
    """Labels, decisions and groups of the rows that one seed tests."""
    rows = (
        (p["selection"] == selection)
        & (p["split"] == split)
        & (p["trial_seed"][p["trial"]] == seed)
    )
    rows &= True if keep is None else keep
    return p["labels"][rows], p["logits"][rows].argmax(axis=1), p["groups"][rows]


def scores(labels, decided, weights=None):
    f1 = sk.f1_score(labels, decided, average="macro", sample_weight=weights)
    return (
        f1,
        sk.balanced_accuracy_score(labels, decided, sample_weight=weights),
        sk.accuracy_score(labels, decided, sample_weight=weights),
    )


@pytest.mark.parametrize("selection", ALL)
def test_folds_are_pooled_within_a_seed_and_seeds_are_averaged(predictions, result, selection):
    by_seed = np.array([scores(*pool(predictions, selection, s)[:2]) for s in SEEDS])
    assert np.ptp(by_seed[:, 0]) > 0.01
    for name, expected in zip(("uf1", "uar", "accuracy"), by_seed.T, strict=True):
        found = result["selections"][selection][name]
        assert found["seeds"] == pytest.approx(expected, abs=1e-12)
        assert found["value"] == pytest.approx(expected.mean(), abs=1e-12)
        assert found["seed_std"] == pytest.approx(expected.std(ddof=1), abs=1e-12)
    labels, decided, groups = pool(predictions, selection, SEEDS[0])
    of_folds = [
        sk.f1_score(labels[groups == g], decided[groups == g], average="macro", zero_division=0)
        for g in np.unique(groups)
    ]
    # what averaging over folds would have given
    assert abs(np.mean(of_folds) - by_seed[0, 0]) > 0.01
    assert result["seeds"] == list(SEEDS)
    assert result["rows"] == {"test": 96, "val": 96}
    assert result["ids"] == {"test": 96, "val": 96}
    assert result["trials"] == {"count": 24, "folds": 8, "failed": []}


def test_seeds_are_one_predictor_by_their_mean_probabilities(predictions, result):
    p, chosen = (
        predictions,
        (predictions["selection"] == "best_val") & (predictions["split"] == "test"),
    )
    shares = np.exp(p["logits"] - np.logaddexp.reduce(p["logits"], axis=1, keepdims=True))
    rows = [np.flatnonzero(chosen & (p["ids"] == i)) for i in np.unique(p["ids"][chosen])]
    right = [shares[r].mean(0).argmax() == p["labels"][r[0]] for r in rows]
    found = result["ensemble"]["accuracy"]
    assert found["value"] == pytest.approx(np.mean(right), abs=1e-12)
    assert found["low"] <= found["value"] <= found["high"]
    assert evaluate(multiclass(seeds=(3,)), "last", "megc2019@0", resamples=20)["ensemble"] == {}
    assert evaluate(multilabel(), "last", "samm@0", resamples=20)["ensemble"] == {}


def test_interval_resamples_the_same_subjects_for_all_seeds(predictions, result):
    pools = [pool(predictions, "best_val", s) for s in SEEDS]
    weights = np.concatenate(list(resample_weights(pools[0][2], 200, seed=0)))
    samples = [
        np.mean([sk.accuracy_score(y, d, sample_weight=w) for y, d, _ in pools]) for w in weights
    ]
    found = result["test"]["accuracy"]
    expected = interval(np.array(samples), found["value"], 8, (0, 1))[:2]
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=1e-12)
    assert found["resamples"] == 200


def test_oracle_gap_is_the_paired_difference_to_the_configured_selection(predictions, result):
    gap, oracle, chosen = (
        result["oracle_gap"],
        result["selections"]["oracle"],
        result["selections"]["best_val"],
    )
    assert set(gap) == {"uf1", "uar", "accuracy"}
    for name, e in gap.items():
        assert e["value"] == pytest.approx(oracle[name]["value"] - chosen[name]["value"], abs=1e-12)
        unpaired = np.hypot(
            oracle[name]["high"] - oracle[name]["low"], chosen[name]["high"] - chosen[name]["low"]
        )
        assert e["high"] - e["low"] < unpaired
    weights = np.concatenate(
        list(resample_weights(pool(predictions, "last", SEEDS[0])[2], 200, seed=0))
    )
    right = {
        name: np.mean([np.equal(*pool(predictions, name, s)[:2]) for s in SEEDS], axis=0)
        for name in ("oracle", "best_val")
    }
    samples = weights @ (right["oracle"] - right["best_val"]) / weights.sum(axis=1)
    found = gap["accuracy"]
    expected = interval(samples, found["value"], 8, (-1, 1))[:2]
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=1e-12)
    assert evaluate(multiclass(), "last", "x@0", resamples=2)["oracle_gap"] == {}


def test_data_sets_of_a_composite_stand_beside_the_whole(predictions, result):
    assert list(result["per_dataset"]) == ["full", "a", "b"]
    assert result["per_dataset"]["full"] == result["selections"]
    for name in "ab":
        for selection in ALL:
            keep = predictions["dataset"] == name
            expected = np.mean(
                [scores(*pool(predictions, selection, s, keep=keep)[:2]) for s in SEEDS], axis=0
            )
            found = result["per_dataset"][name][selection]
            assert [found[m]["value"] for m in ("uf1", "uar", "accuracy")] == pytest.approx(
                expected, abs=1e-12
            )
    one = predictions | {"dataset": np.full(len(predictions["ids"]), "a")}
    assert evaluate(one, "last", "x@0", resamples=2)["per_dataset"] == {}


def test_table_by_subject_and_confusion_count_every_row_once(predictions, result):
    pools = [pool(predictions, "best_val", s) for s in SEEDS]
    table = result["per_group"]
    assert [(r["group"], r["dataset"], r["rows"]) for r in table] == [
        (f"s{g}", "a" if g < 4 else "b", 12) for g in range(8)
    ]
    for row in table:
        right = np.mean([(y == d)[g == row["group"]].sum() for y, d, g in pools])
        assert row["correct"] == pytest.approx(right)
        assert row["accuracy"] == pytest.approx(right / 12)
    confusion = np.mean([sk.confusion_matrix(y, d) for y, d, _ in pools], axis=0)
    np.testing.assert_allclose(result["confusion"]["counts"], confusion)
    assert result["confusion"]["unanswered"] == [0, 0, 0]


def test_multilabel_table_by_subject():
    p = multilabel()
    result = evaluate(p, "best_val", "samm@0", resamples=2)
    thresholds = np.array(result["thresholds"]["per_trial"][0])
    rows = (p["selection"] == "best_val") & (p["split"] == "test")
    truth, decided = (
        p["labels"][rows] > 0,
        1 / (1 + np.exp(-p["logits"][rows].astype(float))) >= thresholds,
    )
    for row in result["per_group"]:
        own = p["groups"][rows] == row["group"]
        assert row["rows"] == own.sum()
        assert row["exact_match"] == pytest.approx((truth == decided)[own].all(axis=1).mean())
        assert row["micro_f1"] == pytest.approx(
            sk.f1_score(truth[own], decided[own], average="micro")
        )
    assert result["confusion"]["tp"] == (truth & decided).sum(axis=0).tolist()
    assert result["confusion"]["fn"] == (truth & ~decided).sum(axis=0).tolist()


def test_rows_of_a_failed_trial_are_wrong_and_never_dropped(predictions, tmp_path):
    lost = 8 + 2  # the trial of fold s2 and the second seed
    p = multiclass(seeds=SEEDS, selections=ALL, failed=(lost,))
    result = evaluate(p, "best_val", "megc2019@0", resamples=50)
    assert result["trials"]["failed"] == [{"trial": lost, "fold": "s2", "seed": 7}]
    labels, decided, groups = pool(p, "best_val", 7)
    # a class of its own: right for none of the three
    decided = np.where(groups == "s2", 9, decided)
    f1 = sk.f1_score(labels, decided, average=None, labels=[0, 1, 2]).mean()
    recall = sk.recall_score(labels, decided, average=None, labels=[0, 1, 2]).mean()
    for name, expected in (("uf1", f1), ("uar", recall), ("accuracy", (labels == decided).mean())):
        assert result["test"][name]["seeds"][1] == pytest.approx(expected, abs=1e-12)
        assert result["test"][name]["low"] < result["test"][name]["value"]
    for name in ("roc_auc", "average_precision", "nll", "brier", "ece"):
        assert result["test"][name]["value"] is None
        assert result["test"][name]["seeds"][1] is None
        assert result["test"][name]["seeds"][0] is not None
        assert result["per_dataset"]["b"]["last"][name]["value"] is not None
    assert result["baselines"]["prevalence"]["nll"]["value"] is not None
    truth = np.bincount(labels[groups == "s2"], minlength=3)
    assert result["confusion"]["unanswered"] == pytest.approx(truth / 3)
    assert np.sum(result["confusion"]["counts"]) + np.sum(
        result["confusion"]["unanswered"]
    ) == pytest.approx(96)
    assert [r["unanswered"] for r in result["per_group"]] == [0, 0, 4, 0, 0, 0, 0, 0]
    run.write_json(tmp_path / "m.json", result)
    assert run.read_json(tmp_path / "m.json") == result


def test_failed_multilabel_trial_decides_everything_wrongly():
    p = multilabel(selections=("last",))
    result = evaluate(
        p | {"logits": np.full_like(p["logits"], np.nan), "failed": np.array([True])},
        "last",
        "samm@0",
        resamples=20,
    )
    assert result["test"]["hamming"]["value"] == 1
    assert (
        result["test"]["macro_f1"]["value"]
        == result["test"]["micro_f1"]["value"]
        == result["test"]["macro_f1_at_0.5"]["value"]
        == 0
    )
    assert result["test"]["roc_auc"]["value"] is None
    assert set(result["thresholds"]["from"][0]) == {"failed"}
    assert result["per_class"][0]["threshold"] is None


def test_what_does_not_fit_is_refused(predictions):
    def refused(match, **changes):
        with pytest.raises(ValueError, match=match):
            evaluate(predictions | changes, "last", "x@0", resamples=2)

    first = (predictions["trial"] == 0) & (predictions["split"] == "test")
    refused("seeds .*same rows", ids=np.where(first, "another", predictions["ids"]))
    refused(
        "2 trials of fold 0 and seed 3",
        trial_fold=np.r_[0, predictions["trial_fold"][[0]], predictions["trial_fold"][2:]],
    )
    refused("trial_seed: 23 trials.* 24", trial_seed=predictions["trial_seed"][1:])
    refused("fold 7.* 3", fold_names=predictions["fold_names"][:3])
    with pytest.raises(ValueError, match=r"missing \['trial_seed'\]"):
        evaluate({k: v for k, v in predictions.items() if k != "trial_seed"}, "last", "x@0")


@pytest.mark.long
def test_five_seeds_of_a_leave_one_subject_out_take_seconds():
    p = multiclass(subjects=52, per_subject=5, seeds=range(5), selections=ALL)
    began = time.process_time()
    evaluate(p, "best_val", "megc2019@0", resamples=1000)
    # about 6 on an idle core, half of it the smooth errors of seven maps, five seeds, 1,000 resamples
    assert time.process_time() - began < 20
