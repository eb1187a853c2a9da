"""VGGFace's VGG16 (rcmalli_vggface_tf_notop_vgg16.h5, from a local file) on FER2013: fine-tuned, or
(:features) frozen, or (:block5).

# frozen backbone computed once per image; only the head is trained
python launch.py --config=configs/vgg16_fer2013.py:features
# conv5_1 to conv5_3 and the head are trained
python launch.py --config=configs/vgg16_fer2013.py:block5
# all layers, lower ones later and with lower learning rates
python launch.py --config=configs/vgg16_fer2013.py

docs/data.md (Weights) says where the file comes from and where to put it. A Keras notebook reports
0.6226 on both tests with this network frozen, and again with "block5" unfrozen: no layer of
keras-vggface has that name, so its fine-tuning trained only the head. :block5 here does what was
meant.

Not measured: the published weights were not available.
"""

from configs import base
from configs.augmentations import PRESETS

VARIANTS = ("", "features", "block5", "debug")


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.fer2013(variant if variant == "debug" else "")
    config.model = {
        "name": "vggface_vgg16",
        "image_size": 224,
        "hidden": (256,),
        "dropout": 0.5,
        "remat": variant != "features",
    }
    config.init.from_file = "rcmalli_vggface_tf_notop_vgg16.h5"
    train, optimizer = config.train, config.optimizer
    train.normalize, train.precision, train.eval_batch = "none", "bfloat16", 64
    optimizer.name, optimizer.learning_rate, optimizer.schedule = "adam", 1e-4, "cosine"
    if variant == "features":
        config.init.features, train.epochs, train.precision, optimizer.learning_rate = (
            True,
            60,
            "float32",
            1e-3,
        )
        return config
    config.augment.update(PRESETS["keras_notebook"])
    train.epochs, train.batch_size, optimizer.warmup = 12, 64, 0.05
    if variant == "block5":
        optimizer.freeze = "^conv[1-4]_"
    else:
        optimizer.rates = "^conv5_=0.3,^conv4_=0.1@0.1,^conv[1-3]_=0.03@0.2"
    if variant == "debug":
        config.init.from_file, train.epochs, train.batch_size = "", 2, 32
        config.model.update(
            {
                "widths": (4, 4, 4, 8, 8),
                "convolutions": (1, 1, 1, 1, 1),
                "hidden": (8,),
                "image_size": 32,
            }
        )
    return config
