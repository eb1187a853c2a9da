"""fexpr's side of leave-one-subject-out training: all folds and seeds as trials of one program."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.loso_task import CLASSES, MODEL


def fexpr_side(
    network: str,
    images: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    seeds: Sequence[int],
    epochs: int,
    batch: int,
    rate: float,
    trial_axis: str = "auto",
    dropout: float = 0.5,
) -> Callable[[], list[np.ndarray]]:
    """A function that trains all trials once and returns when they are done; compiled before.

    Args:
      network: 'ststnet', or 'htnet' of the notebook's size.
      images: uint8 [N, 28, 28, 3]. labels: int32 [N].
      folds: the test rows of every fold; all others train.
      seeds: a trial is one fold with one of them; folds count faster.
      batch: rows per step. rate: Adam's learning rate. trial_axis: 'vmap', 'map' or 'auto'.
      dropout: of STSTNet (the notebook's HTNet has none).

    Returns:
      The function; it returns the last epoch's logits of the test rows [m, K], trial by trial.
    """
    import jax

    from fexpr import models
    from fexpr.train import trials
    from fexpr.train.mesh import make_mesh
    from fexpr.train.state import make_recipe
    from fexpr.train.trial_tables import TrialSpec

    arguments = {"ststnet": {"dropout": dropout}, "htnet": MODEL}[network]
    config = {
        "train": {"loss": "cross_entropy", "batch_size": batch, "epochs": epochs},
        "optimizer": {"name": "adam"},
    }
    model = models.build(network, num_classes=CLASSES, **arguments)
    recipe = make_recipe(config, model, "flow", multilabel=False)
    rows = np.arange(len(images))
    specs = [
        TrialSpec(np.setdiff1d(rows, test), rows[:0], test, fold=i, seed=seed, learning_rate=rate)
        for seed in seeds
        for i, test in enumerate(folds)
    ]
    mesh = make_mesh(len(specs), batch)
    engine = trials.Engine(recipe, images, labels, CLASSES, specs, mesh, trial_axis=trial_axis)

    engine.compile()

    def run() -> list[np.ndarray]:
        logits_by_trial = []
        for chunk in range(engine.plan.chunks):
            engine.load(chunk)
            state = engine.init()
            for _ in range(epochs):
                state, _ = engine.epoch(state)
            jax.block_until_ready(state)
            logits_by_trial += list(engine.to_host(state.last.logits))
        return [logits[: len(s.test)] for logits, s in zip(logits_by_trial, specs, strict=True)]

    return run
