"""A residual network sized for two CPU cores, on FER2013: within an hour.

python launch.py --config=configs/resnet_small_fer2013.py

695,655 parameters, 53 million multiply-adds an image: the first convolution halves the image, three
stages. One-cycle learning rate, alternating flips, and images of 32 pixels for the first half of
the epochs, which cost half as much.

Measured 2026-11-27, two shared CPU cores, about 55 min: PublicTest accuracy 0.637 (0.621–0.651),
macro F1 0.608 (0.584–0.629), ECE 0.035 (0.024–0.048).
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {
        "name": "resnet",
        "widths": (32, 64, 128),
        "blocks": (2, 2, 2),
        "stem_stride": 2,
    }
    train, optimizer = config.train, config.optimizer
    train.ema, train.tta, train.label_smoothing = 0.998, "flip", 0.1
    train.early_size, train.early_share = 32, 0.5
    optimizer.name, optimizer.learning_rate, optimizer.weight_decay = "sgd", 0.1, 5e-4
    optimizer.schedule, optimizer.warmup = "linear", 0.15
    config.augment.update(
        {
            "alternate": True,
            "rotation": 10.0,
            "rotation_p": 0.5,
            "zoom": 0.15,
            "shift": 2,
            "crop": 44,
            "contrast": 0.2,
            "brightness": 0.1,
            "light_p": 0.5,
        }
    )
    if variant == "debug":
        config.model.widths, config.model.blocks = (4, 8), (1, 1)
    else:
        train.epochs, train.selection = 36, "last"
    return config
