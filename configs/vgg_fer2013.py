"""A VGG network from scratch with a modern recipe on FER2013. For an accelerator; vgg_small_fer2013
suits a CPU.

python launch.py --config=configs/vgg_fer2013.py

SGD with Nesterov momentum, cosine schedule with warm-up, label smoothing, mixup, cutout, a running
mean of the weights, flips and crops at test time, bfloat16 activations.

Not measured.
"""

from configs import base
from configs.augmentations import PRESETS


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "vgg_fer", "hidden": (512,), "dropout": 0.4}
    if variant == "debug":
        config.model.update({"widths": (8, 16)})
    train, optimizer = config.train, config.optimizer
    train.precision, train.ema, train.tta, train.label_smoothing = (
        "bfloat16",
        0.999,
        "flip_crop",
        0.1,
    )
    optimizer.name, optimizer.learning_rate, optimizer.weight_decay = "sgd", 0.05, 5e-4
    optimizer.schedule, optimizer.warmup = "cosine", 0.02
    config.augment.update(PRESETS["strong"])
    config.augment.mixup = 0.2
    if variant != "debug":
        train.epochs, train.selection = 200, "last"
    return config
