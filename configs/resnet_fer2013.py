"""ResNet18 from scratch with a strong recipe on FER2013. For an accelerator.

python launch.py --config=configs/resnet_fer2013.py         # one network
# five as one program: each, their mean, and the ensemble
python launch.py --config=configs/resnet_fer2013.py:seeds
# trained on the validation rows too: for weights to be used
python launch.py --config=configs/resnet_fer2013.py:final

Not measured.
"""

from configs import base
from configs.augmentations import PRESETS

VARIANTS = ("", "seeds", "final", "debug")


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.fer2013("debug" if variant == "debug" else "")
    train, optimizer = config.train, config.optimizer
    config.model = {"name": "resnet", "widths": (64, 128, 256, 512), "blocks": (2, 2, 2, 2)}
    train.batch_size, train.precision, train.ema = 256, "bfloat16", 0.999
    train.label_smoothing, train.tta, train.trial_axis, train.selection = (
        0.1,
        "flip_crop",
        "map",
        "last",
    )
    optimizer.name, optimizer.learning_rate, optimizer.weight_decay = "sgd", 0.1, 5e-4
    optimizer.schedule, optimizer.warmup = "cosine", 0.03
    config.augment.update(PRESETS["residual"])
    train.epochs = 60
    if variant == "seeds":
        config.split.seeds = 5
    if variant == "final":
        config.split.val = "none"
    if variant == "debug":
        config.model.update({"widths": (8, 16), "blocks": (1, 1), "stem_stride": 2})
        train.batch_size, train.epochs = 64, 3
        train.precision = "float32"  # a CPU computes bfloat16 slowly
    return config
