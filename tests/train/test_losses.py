import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from fexpr.evaluate import calibration, recalibration
from fexpr.train import losses, monitors
from fexpr.train.train_config import LOSSES

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (20, 4)).astype(np.float32)
HARD = (RNG.random((20, 4)) < 0.3).astype(np.float32)
SOFT = (HARD * RNG.choice([0.2, 0.4, 0.6, 0.8, 1.0], HARD.shape)).astype(np.float32)
WEIGHTS = np.array([1.0, 2.5, 7.0, 0.5], np.float32)


@pytest.mark.parametrize("targets", [HARD, SOFT])
def test_binary_cross_entropy_is_the_textbook_formula(targets):
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    expected = -(WEIGHTS * targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(1)
    np.testing.assert_allclose(
        losses.binary_cross_entropy(LOGITS, targets, WEIGHTS, jnp.float32(0)), expected, rtol=2e-5
    )


def test_focal_is_the_papers_formula_and_cross_entropy_at_gamma_zero():
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    p_t = np.where(HARD > 0, p, 1 - p)
    expected = -((1 - p_t) ** 2 * np.log(p_t)).mean(1)
    ones = np.ones(4, np.float32)
    np.testing.assert_allclose(
        losses.focal(LOGITS, HARD, ones, jnp.float32(2)), expected, rtol=1e-4, atol=1e-7
    )
    plain = losses.binary_cross_entropy(LOGITS, SOFT, WEIGHTS, jnp.float32(0))
    np.testing.assert_allclose(
        losses.focal(LOGITS, SOFT, WEIGHTS, jnp.float32(0)), plain, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["bce", "focal"])
def test_gradients_are_finite_at_extreme_logits(name):
    extreme = jnp.array([[-200.0, 200.0, 0.0, 50.0]], jnp.float32)
    grad = jax.grad(
        lambda z: LOSSES[name](
            z, jnp.array([[1.0, 0.0, 1.0, 0.2]]), WEIGHTS, jnp.float32(0.5)
        ).sum()
    )(extreme)
    assert np.isfinite(grad).all()


def test_cross_entropy_smooths_and_weighs():
    labels = RNG.integers(0, 4, 20).astype(np.int32)
    log_p = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(1, keepdims=True))
    smooth = np.eye(4)[labels] * 0.9 + 0.025
    np.testing.assert_allclose(
        losses.cross_entropy(LOGITS, labels, WEIGHTS, jnp.float32(0.1)),
        -(smooth * log_p).sum(1) * WEIGHTS[labels],
        rtol=1e-4,
        atol=1e-5,
    )


def test_class_weights():
    ids = np.repeat(np.arange(3), [2, 5, 13]).astype(np.int32)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=ids)
    np.testing.assert_allclose(losses.class_weights(ids, 3, 1.0, 100), balanced, rtol=1e-6)
    assert losses.class_weights(ids, 3, 0.0, 100).tolist() == [1, 1, 1]
    columns = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], np.float32)
    weights = losses.class_weights(columns, 3, 1.0, 2.0)
    # 3 / 1 capped; no positives; no negatives
    assert weights.tolist() == [2.0, 1.0, pytest.approx(1e-6)]


def test_monitors_equal_scikit_learn_on_the_rows_of_the_mask():
    mask = np.arange(20) < 15
    row_losses = RNG.random(20).astype(np.float32)
    ids = RNG.integers(0, 4, 20).astype(np.int32)
    said = LOGITS.argmax(1)
    assert monitors.accuracy(LOGITS, ids, mask, row_losses) == pytest.approx(
        accuracy_score(ids[:15], said[:15])
    )
    assert monitors.uf1(LOGITS, ids, mask, row_losses) == pytest.approx(
        f1_score(ids[:15], said[:15], average="macro"), rel=1e-6
    )
    assert monitors.negative_loss(LOGITS, ids, mask, row_losses) == pytest.approx(
        -row_losses[:15].mean(), rel=1e-6
    )
    ties = np.round(LOGITS)
    expected = np.mean([roc_auc_score(HARD[:15, k], ties[:15, k]) for k in range(4)])
    assert monitors.roc_auc(ties, HARD, mask, row_losses) == pytest.approx(expected, rel=1e-6)


def test_roc_auc_leaves_out_classes_without_positives():
    one_sided = HARD.copy()
    one_sided[:, 2] = 0
    expected = np.mean([roc_auc_score(one_sided[:, k], LOGITS[:, k]) for k in (0, 1, 3)])
    assert monitors.roc_auc(LOGITS, one_sided, np.ones(20, bool), LOGITS[:, 0]) == pytest.approx(
        expected, rel=1e-6
    )
    assert monitors.roc_auc(LOGITS, np.zeros_like(HARD), np.ones(20, bool), LOGITS[:, 0]) == 0.5


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
@pytest.mark.parametrize("multilabel", [False, True])
def test_refinement_is_the_log_loss_after_the_numpy_temperature(scale, multilabel):
    rng = np.random.default_rng(1)
    mask = np.arange(60) < 45
    logits = (scale * rng.normal(0, 2, (60, 4))).astype(np.float32)
    labels = (
        (rng.random((60, 4)) < 1 / (1 + np.exp(-logits / (3 * scale)))).astype(np.float32)
        if multilabel
        else (logits / scale + rng.gumbel(size=(60, 4)) * 3).argmax(axis=1).astype(np.int32)
    )
    fitted = recalibration.fit_temperature(logits[:45], labels[:45], np.full(45, "val"))
    presence = labels > 0 if multilabel else labels[:, None] == np.arange(4)
    plain = logits[:45].astype(np.float64) / fitted.temperature  # without smoothing
    expected = calibration.nll_per_row(presence[:45], plain, multilabel).mean()
    logits[50] = np.nan  # outside the mask
    found = jax.jit(monitors.refinement)(logits, labels, mask, jnp.zeros(60))
    assert float(found) == pytest.approx(-expected, rel=1e-5)


def test_refinement_of_logits_that_say_nothing_or_separate():
    ids, mask = np.arange(12) % 3, np.ones(12, bool)
    nothing = jnp.zeros(12)
    flat = monitors.refinement(jnp.ones((12, 3)), ids, mask, nothing)
    assert float(flat) == pytest.approx(-np.log(3), rel=1e-5)
    perfect = 5 * np.eye(3, dtype=np.float32)[ids]
    assert float(monitors.refinement(perfect, ids, mask, nothing)) == pytest.approx(0, abs=1e-6)
    backwards = monitors.refinement(-perfect, ids, mask, nothing)
    assert float(backwards) == pytest.approx(-np.log(3), rel=1e-4)
