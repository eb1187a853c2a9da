"""Each NumPy port against scikit-learn, with row weights, to 1e-12."""

import numpy as np
import pytest
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve

from fexpr.evaluate import calibration, metrics

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(params=[0, 1, 2])
def case(request):
    """Rows, four weightings (ones, integers with zeros, fractions), scores with many ties."""
    rng = np.random.default_rng(request.param)
    presence = rng.random((60, 5)) < [0.5, 0.3, 0.2, 0.1, 0.6]
    presence[:2] = [[True] * 5, [False] * 5]
    scores = np.round(rng.normal(size=(60, 5)) + presence, 1)
    weights = np.stack(
        [np.ones(60), rng.integers(0, 4, 60), rng.integers(0, 2, 60), rng.random(60)]
    ).astype(float)
    weights[:, :2] = 1
    return presence, scores, scores > 0.6, weights


def per_class(function, presence, other, weights, **keywords):
    columns = range(presence.shape[1])
    return [
        [function(presence[:, k], other[:, k], sample_weight=w, **keywords) for k in columns]
        for w in weights
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.precision, sk.precision_score),
        (metrics.recall, sk.recall_score),
        (metrics.f1, sk.f1_score),
        (metrics.uar, sk.balanced_accuracy_score),
    ],
)
def test_count_metrics_equal_scikit_learn(case, ours, theirs):
    presence, _, decisions, weights = case
    counts = metrics.confusion_counts(presence, decisions, weights)
    np.testing.assert_allclose(
        ours(counts), per_class(theirs, presence, decisions, weights), **EXACT
    )
    if ours is not metrics.uar:
        micro = [theirs(presence, decisions, sample_weight=w, average="micro") for w in weights]
        np.testing.assert_allclose(ours(counts.pooled())[:, 0], micro, **EXACT)


@pytest.mark.parametrize("tied", [True, False])
def test_ranking_metrics_equal_scikit_learn(case, tied):
    presence, scores, _, weights = case
    scores = scores if tied else scores + np.linspace(0, 0.09, 60)[:, None]
    assert (len(np.unique(scores[:, 0])) < 60) == tied
    auc, ap = metrics.roc_auc_and_average_precision(presence, scores, weights)
    np.testing.assert_allclose(auc, per_class(sk.roc_auc_score, presence, scores, weights), **EXACT)
    np.testing.assert_allclose(
        ap, per_class(sk.average_precision_score, presence, scores, weights), **EXACT
    )


def test_row_metrics_equal_scikit_learn(case):
    presence, _, decisions, weights = case
    for ours, theirs in (
        (metrics.exact_match, sk.accuracy_score),
        (metrics.hamming_loss, sk.hamming_loss),
    ):
        expected = [theirs(presence, decisions, sample_weight=w) for w in weights]
        np.testing.assert_allclose(ours(presence, decisions, weights), expected, **EXACT)


def test_one_of_k_metrics_equal_scikit_learn(case):
    _, logits, _, weights = case
    labels = np.random.default_rng(9).integers(0, 5, 60)
    labels[:5] = range(5)
    weights[:, :5] = 1
    truth, decisions = labels[:, None] == np.arange(5), logits.argmax(1)[:, None] == np.arange(5)
    p, every = calibration.probabilities(logits, False), np.ones(5, bool)
    counts = metrics.confusion_counts(truth, decisions, weights)
    nll = metrics.weighted_mean(calibration.nll_per_row(truth, logits, False), weights)
    brier = metrics.weighted_mean(calibration.brier_per_row(truth, logits, False), weights)
    for b, w in enumerate(weights):
        expected = {
            "accuracy": sk.accuracy_score(labels, logits.argmax(1), sample_weight=w),
            "macro_f1": sk.f1_score(labels, logits.argmax(1), sample_weight=w, average="macro"),
            "weighted_f1": sk.f1_score(
                labels, logits.argmax(1), sample_weight=w, average="weighted"
            ),
            "uar": sk.balanced_accuracy_score(labels, logits.argmax(1), sample_weight=w),
            "weighted_precision": sk.precision_score(
                labels, logits.argmax(1), sample_weight=w, average="weighted"
            ),
            "top2": sk.top_k_accuracy_score(labels, logits, k=2, sample_weight=w),
            "nll": sk.log_loss(labels, p, sample_weight=w),
            "brier": sk.brier_score_loss(labels, p, sample_weight=w, scale_by_half=False),
        }
        found = {
            "accuracy": metrics.exact_match(truth, decisions, weights)[b],
            "macro_f1": metrics.macro(metrics.f1(counts), every)[b],
            "weighted_f1": metrics.by_support(metrics.f1(counts), counts)[b],
            "uar": metrics.macro(metrics.recall(counts), every)[b],
            "weighted_precision": metrics.by_support(metrics.precision(counts), counts)[b],
            "top2": metrics.weighted_mean(metrics.in_top(truth, logits, 2), weights)[b],
            "nll": nll[b],
            "brier": brier[b],
        }
        assert found == pytest.approx(expected, abs=1e-12)
    auc = metrics.macro(metrics.roc_auc_and_average_precision(truth, p, np.ones((1, 60)))[0], every)
    assert auc[0] == pytest.approx(sk.roc_auc_score(labels, p, multi_class="ovr"), abs=1e-12)


def test_multilabel_probability_metrics_equal_scikit_learn(case):
    presence, logits, _, weights = case
    p = calibration.probabilities(logits, True)
    nll = metrics.weighted_mean(calibration.nll_per_row(presence, logits, True), weights)
    brier = metrics.weighted_mean(calibration.brier_per_row(presence, logits, True), weights)
    np.testing.assert_allclose(
        nll, np.mean(per_class(sk.log_loss, presence, p, weights), axis=1), **EXACT
    )
    np.testing.assert_allclose(
        brier, np.mean(per_class(sk.brier_score_loss, presence, p, weights), axis=1), **EXACT
    )


def test_calibration_error_against_reliability_curve(case):
    presence, logits, _, weights = case
    p = calibration.probabilities(logits, True)[:, :1]
    rate, confidence = calibration_curve(presence[:, 0], p[:, 0], n_bins=10)
    which = np.searchsorted(np.linspace(0, 1, 11)[1:-1], p[:, 0])
    share = np.bincount(which, minlength=10)
    expected = np.sum(share[share > 0] / 60 * np.abs(rate - confidence))

    def error(rows, weights):
        return calibration.measures(presence[rows, :1], logits[rows, :1], True)(weights)["ece"]

    every = np.arange(60)
    np.testing.assert_allclose(error(every, np.ones((1, 60))), [expected], **EXACT)

    twice = weights[1].astype(int)  # an integer weight is a row repeated
    repeated = error(np.repeat(every, twice), np.ones((1, twice.sum())))
    np.testing.assert_allclose(error(every, weights[1:2]), repeated, **EXACT)


def test_confidence_of_one_of_k_is_the_top_class():
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    confidence, right = calibration.confidence_and_outcome(
        np.array([[True, False, False], [True, False, False]]), logits, False
    )
    np.testing.assert_allclose(confidence[:, 0], [np.e**2 / (np.e**2 + 2), np.e / (np.e + 2)])
    assert right[:, 0].tolist() == [True, False]


def test_class_without_positives_is_undefined_and_skipped_not_zero():
    presence = np.array([[True, False], [False, False], [True, False]])
    decisions = np.array([[True, True], [False, False], [True, False]])
    weights = np.ones((1, 3))
    counts = metrics.confusion_counts(presence, decisions, weights)
    for metric in (metrics.precision, metrics.recall, metrics.f1, metrics.uar):
        assert metric(counts)[0, 0] == 1
        assert np.isnan(metric(counts)[0, 1])
        assert metrics.macro(metric(counts), np.array([True, True]))[0] == 1
    auc, ap = metrics.roc_auc_and_average_precision(presence, decisions.astype(float), weights)
    assert np.isnan([auc[0, 1], ap[0, 1]]).all()
    assert [auc[0, 0], ap[0, 0]] == [1, 1]
    assert np.isnan(metrics.macro(metrics.f1(counts), np.array([False, True]))[0])
    # its false positive still counts in the micro average
    assert metrics.f1(counts.pooled())[0, 0] == pytest.approx(0.8)


def test_class_that_is_never_predicted_scores_zero():
    counts = metrics.confusion_counts(
        np.array([[True], [False]]), np.zeros((2, 1), bool), np.ones((1, 2))
    )
    assert (
        metrics.precision(counts)[0, 0]
        == metrics.f1(counts)[0, 0]
        == metrics.recall(counts)[0, 0]
        == 0
    )


def test_roc_auc_needs_negatives():
    auc, ap = metrics.roc_auc_and_average_precision(
        np.ones((3, 1), bool), np.arange(3.0)[:, None], np.ones((1, 3))
    )
    assert np.isnan(auc[0, 0])
    assert ap[0, 0] == 1


def test_extreme_logits_stay_finite():
    logits = np.array([[800.0, -800.0]])
    assert calibration.nll_per_row(np.array([[False, True]]), logits, True)[0] == 800
    assert calibration.nll_per_row(np.array([[False, True]]), logits, False)[0] == 1600
    assert np.isfinite(calibration.brier_per_row(np.array([[False, True]]), logits, True)).all()
