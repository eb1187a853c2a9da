"""Engines that benchmarks/accelerator.py times on random pixels, and the arithmetic of a network
counted from its program.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fexpr import models
from fexpr.models.arithmetic import count_products
from fexpr.train import trials
from fexpr.train.mesh import make_mesh
from fexpr.train.state import make_recipe
from fexpr.train.trial_tables import TrialSpec
from fexpr.train.views import input_shape


def faces(
    rows: int, shape: tuple[int, int, int] = (48, 48, 1), classes: int = 7
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (rows, *shape), np.uint8), rng.integers(0, classes, rows).astype(
        np.int32
    )


def resnet(quick: bool, count: int, trial_axis: str) -> tuple[trials.Engine, int]:
    """So many trials of resnet_fer2013's step; the engine and the images that it trains on in an
    epoch.
    """
    from configs import resnet_fer2013

    c = resnet_fer2013.get_config("debug" if quick else "")
    steps, batch = (2, 32) if quick else (40, c.train.batch_size)
    model = {k: v for k, v in c.model.to_dict().items() if k != "name"}
    config = {
        "train": {
            "loss": "cross_entropy",
            "batch_size": batch,
            "epochs": 10**6,
            "ema": c.train.ema,
            "precision": "float32" if quick else c.train.precision,
        },
        "optimizer": {"name": "sgd", "schedule": "cosine"},
        "augment": {**c.augment.to_dict(), "mixup_until": 1.0},
    }
    recipe = make_recipe(
        config, models.build("resnet", num_classes=7, **model), "face", multilabel=False
    )
    images, labels = faces(steps * batch + 8)
    rows = np.arange(len(images))
    specs = [
        TrialSpec(rows[:-8], rows[:0], rows[-8:], seed=i, learning_rate=0.01) for i in range(count)
    ]
    engine = trials.Engine(
        recipe, images, labels, 7, specs, make_mesh(count, batch), trial_axis=trial_axis
    )
    return engine, count * steps * batch


def ststnet(quick: bool, trial_axis: str) -> tuple[trials.Engine, int]:
    """Trials of STSTNet, many (vmap) or few (map, one after the other)."""
    count = 4 if quick else 260 if trial_axis == "vmap" else 16
    images, labels = faces(32 * 8 + 8, (28, 28, 3), 3)
    rows = np.arange(len(images))
    config = {
        "train": {"loss": "cross_entropy", "batch_size": 32, "epochs": 10**6},
        "optimizer": {"name": "adam"},
    }
    recipe = make_recipe(config, models.build("ststnet", num_classes=3), "flow", multilabel=False)
    specs = [TrialSpec(rows[:-8], rows[:0], rows[-8:], seed=i) for i in range(count)]
    engine = trials.Engine(
        recipe, images, labels, 3, specs, make_mesh(count, 32), trial_axis=trial_axis
    )
    return engine, count * 256


def logistic(quick: bool) -> tuple[trials.Engine, int]:
    """Next to no arithmetic: what a step costs by itself."""
    steps = 4 if quick else 200
    images, labels = faces(32 * steps + 8, (8, 8, 1))
    rows = np.arange(len(images))
    config = {
        "train": {"loss": "cross_entropy", "batch_size": 32, "epochs": 10**6},
        "optimizer": {"name": "sgd"},
    }
    recipe = make_recipe(config, models.build("logistic", num_classes=7), "face", multilabel=False)
    spec = TrialSpec(rows[:-8], rows[:0], rows[-8:])
    return trials.Engine(recipe, images, labels, 7, [spec], make_mesh(1, 32)), steps * 32


def training_flops(engine: trials.Engine) -> float:
    """Of an image in training, as `fexpr.runs.utilization` counts them."""
    image = input_shape(engine.images.shape[1:], engine.recipe.crop)
    return 3 * 2.0 * count_products(engine.recipe.model, image)


ENGINES: dict[str, Callable[[bool], tuple[trials.Engine, int]]] = {
    "resnet_fer2013, one trial": lambda quick: resnet(quick, 1, "map"),
    "a step of next to nothing": logistic,
    "STSTNet, trials by vmap": lambda quick: ststnet(quick, "vmap"),
    "STSTNet, trials by map": lambda quick: ststnet(quick, "map"),
    "resnet_fer2013, two trials by vmap": lambda quick: resnet(quick, 2, "vmap"),
    "resnet_fer2013, two trials by map": lambda quick: resnet(quick, 2, "map"),
}
