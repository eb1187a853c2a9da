"""Writes tests/fixtures/calibration_references.npz: what relplot, uncertainty-calibration and
probmetrics say of the same predictions, so that the tests need none of them.

    pip install relplot==1.0.3 uncertainty-calibration==0.1.4 probmetrics==1.3.0
    python benchmarks/calibration_references.py tests/fixtures/calibration_references.npz

Needs no fexpr, and runs in an environment of its own: probmetrics brings PyTorch.
"""

from __future__ import annotations

import importlib.metadata
import sys

import numpy as np

PACKAGES = ("relplot", "uncertainty-calibration", "probmetrics", "numpy", "torch")
ROWS, CLASSES, BLOCKS = 600, 4, 5
# deviation of the true logits, and the factor that is reported: a perfect model, one that is too
# confident; hardly any confidence is above 0.999, where relplot loses rows (docs/decisions.md)
CASES = ((1.5, 1.0), (0.6, 2.5))
SIGMAS = (0.02, 0.1)


def case(deviation: float, factor: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = deviation * rng.normal(size=(ROWS, CLASSES))
    p = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1)[:, :-1] < rng.random((ROWS, 1))).sum(axis=1)
    logits = np.round(factor * true, 3)
    return {
        "logits": logits,
        "labels": labels,
        "blocks": rng.permutation(np.arange(ROWS) % BLOCKS),
        "rate": np.round(rng.random(ROWS), 3),
        **references(logits, labels),
    }


def references(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    import calibration
    import relplot

    relplot.config.smECE_mesh_pts = 20_001  # its sum over 200 points counts the ends in full
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    top = p.argmax(axis=1)
    confidence, right = p.max(axis=1), (top == labels).astype(float)
    error, bandwidth = relplot.smECE(confidence, right, return_width=True)
    mesh = np.linspace(0, 1, 21)
    gap, _ = relplot.kernels.ReflectedGaussianKernel(bandwidth).smooth(
        confidence, right - confidence, mesh
    )
    return {
        "smooth_ece": np.array(error),
        "bandwidth": np.array(bandwidth),
        "smooth_ece_sigma": np.array([relplot.smECE_sigma(confidence, right, s) for s in SIGMAS]),
        "kernel_gap": gap,
        "debiased_rms": np.array(
            calibration.lower_bound_scaling_ce(p, labels, p=2, debias=True, mode="top-label")
        ),
    }


def proper_l1(confidence: np.ndarray, right: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Mean of the proper L1 loss in both directions together, too high and too low alone, of rates
    that somebody else fitted. Half of that over both classes: with one class, probmetrics 1.3.0
    takes the second column of the prediction, but both of `f_x`."""
    import torch
    from probmetrics.distributions import CategoricalDirac, CategoricalProbs
    from probmetrics.metrics import OverConfidenceLoss, ProperLpLoss, UnderConfidenceLoss

    two = lambda p: CategoricalProbs(torch.tensor(np.stack([1 - p, p], axis=1)))
    truth = CategoricalDirac(torch.tensor(right.astype(int)), n_classes=2)
    losses = (
        ProperLpLoss(p=1, binary_as_multiclass=True),
        OverConfidenceLoss(ProperLpLoss(p=1, binary_as_multiclass=True)),
        UnderConfidenceLoss(ProperLpLoss(p=1, binary_as_multiclass=True)),
    )
    return np.array(
        [
            -loss._compute_indiv(truth, two(rate), f_x=two(confidence)).mean().item() / 2
            for loss in losses
        ]
    )


def losses(logits: np.ndarray, labels: np.ndarray, blocks: np.ndarray) -> dict[str, np.ndarray]:
    """Refinement and calibration of log loss and Brier score, the temperature fitted to the other
    blocks."""
    import torch
    from probmetrics.calibrators import get_calibrator
    from probmetrics.metrics import BrierLoss, CombinedMetrics, LogLoss, MetricsWithCalibration
    from probmetrics.splitters import Splitter

    class Given(Splitter):
        def get_splits(self, y_true, random_state=None):
            return [
                (np.flatnonzero(blocks != b), np.flatnonzero(blocks == b)) for b in range(BLOCKS)
            ]

        def get_name(self):
            return "given"

    parts = MetricsWithCalibration(
        CombinedMetrics([LogLoss(), BrierLoss()]),
        get_calibrator("temp-scaling", calibrate_with_mixture=True),
        val_splitter=Given(),
        cal_name="ts",
    )
    found = parts.compute_all_from_labels_logits(torch.tensor(labels), torch.tensor(logits))
    names = ("refinement_logloss", "calib-err_logloss", "refinement_brier", "calib-err_brier")
    return {"losses": np.array([found[f"{name}_ts_given"].item() for name in names])}


def main() -> None:
    arrays = {"versions": np.array([f"{p} {importlib.metadata.version(p)}" for p in PACKAGES])}
    for i, (deviation, factor) in enumerate(CASES):
        found = case(deviation, factor, i)
        p = np.exp(found["logits"])
        p /= p.sum(axis=1, keepdims=True)
        c, right = p.max(axis=1), p.argmax(axis=1) == found["labels"]
        high = c > 0.5  # below it probmetrics calls a confidence too low that is above the rate
        found["proper_l1"] = proper_l1(c[high], right[high], np.maximum(found["rate"][high], 0.5))
        found |= losses(found["logits"], found["labels"], found["blocks"])
        arrays |= {f"{name}_{i}": value for name, value in found.items()}
        print(factor, {n: v for n, v in found.items() if v.size < 8})
    np.savez_compressed(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
