"""The two-layer CNN 32-64 of a Keras notebook (83,335 parameters) on FER2013, with that notebook's
augmentation.

python launch.py --config=configs/cnn_simple_fer2013.py

Measured 2026-11-26, three seeds, two shared CPU cores, 67 min: PublicTest accuracy
0.543 (0.527–0.558), ECE after temperature scaling 0.016.
"""

from configs import base
from configs.augmentations import PRESETS


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "fer_cnn_simple"}
    config.train.normalize = "unit"
    config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-3
    config.optimizer.schedule, config.optimizer.warmup = "cosine", 0.05
    config.augment.update(PRESETS["keras_notebook"])
    if variant != "debug":
        config.train.epochs, config.train.selection = 60, "last"
    return config
