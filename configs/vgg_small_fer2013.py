"""A VGG network small enough for two CPU cores, on FER2013: an hour.

python launch.py --config=configs/vgg_small_fer2013.py

vgg_fer2013's recipe (SGD, cosine, running mean of the weights) without what does not pay in so few
epochs: label smoothing, mixup, cutout.

Measured 2026-11-26, two shared CPU cores, 54 min: PublicTest accuracy 0.622 (0.607–0.638), ECE
after temperature scaling 0.017.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "vgg_fer", "widths": (16, 64, 128, 256), "hidden": (), "dropout": 0.3}
    train, optimizer = config.train, config.optimizer
    train.ema, train.tta = 0.998, "flip"
    optimizer.name, optimizer.learning_rate, optimizer.weight_decay = "sgd", 0.05, 5e-4
    optimizer.schedule, optimizer.warmup = "cosine", 0.05
    config.augment.update({"flip": 0.5, "rotation": 10.0, "zoom": 0.1, "shift": 3})
    if variant != "debug":
        train.epochs, train.selection = 20, "last"
    return config
