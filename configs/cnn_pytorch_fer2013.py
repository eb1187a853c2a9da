"""The CNN 32-32-64-64-128-128 of a PyTorch notebook on FER2013, with that notebook's augmentation
and optimiser.

python launch.py --config=configs/cnn_pytorch_fer2013.py

Measured 2026-11-27 with --config.train.epochs=30, two shared CPU cores, 111 min: PublicTest
accuracy 0.632 (0.616–0.648), ECE after temperature scaling 0.020. All 100 epochs: not
measured.
"""

from configs import base
from configs.augmentations import PRESETS


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "fer_cnn_pytorch"}
    config.optimizer.name, config.optimizer.learning_rate = "adam", 3e-4
    config.augment.update(PRESETS["pytorch_notebook"])
    if variant != "debug":
        config.train.epochs = 100
    return config
