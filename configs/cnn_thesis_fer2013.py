"""The CNN 64-64-256-256 of Angel 2021 (785,095 parameters as Keras counts) on FER2013.

python launch.py --config=configs/cnn_thesis_fer2013.py

Measured 2026-11-24, two shared CPU cores, 55 min: PublicTest accuracy 0.652 (0.638–0.669), ECE
after temperature scaling 0.019. Test-time flipping was added after training
(docs/results.md).
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "fer_cnn_thesis"}
    config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-3
    config.optimizer.schedule, config.optimizer.warmup = "cosine", 0.05
    config.augment.flip, config.augment.shift = 0.5, 3
    # the mirror image's answer, too: 0.666 of the validation rows right instead of 0.657
    config.train.tta = "flip"
    if variant != "debug":
        config.train.epochs, config.train.selection = 50, "last"
    return config
