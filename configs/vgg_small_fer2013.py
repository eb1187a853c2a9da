"""The strong recipe with a VGG network small enough for two CPU cores, on FER2013.

python launch.py --config=configs/vgg_small_fer2013.py

Measured results: docs/results.md.
"""

from configs import base
from configs.augmentations import PRESETS


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "vgg_fer", "widths": (32, 64, 128, 256), "hidden": (), "dropout": 0.3}
    train, optimizer = config.train, config.optimizer
    train.ema, train.tta, train.label_smoothing = 0.998, "flip", 0.1
    optimizer.name, optimizer.learning_rate, optimizer.weight_decay = "sgd", 0.05, 5e-4
    optimizer.schedule, optimizer.warmup = "cosine", 0.05
    config.augment.update(PRESETS["strong"])
    config.augment.update({"cutout": 10, "brightness": 0.0, "contrast": 0.0})
    if variant != "debug":
        train.epochs, train.selection = 24, "last"
    return config
