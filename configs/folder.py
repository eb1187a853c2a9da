"""A small CNN on your own images, <person>/<class>/*.jpg or a CSV of path, label, group; nobody is
trained and tested on.

python launch.py --config=configs/folder.py --config.data.path=photos
python launch.py --config=configs/folder.py --config.data.path=photos.csv --config.data.colours=rgb
# drawn faces, to try it out
python launch.py --config=configs/folder.py --config.data.source=synthetic

Tests on a fifth of the persons, selects the epoch on a fifth of the others. With fewer than ten
persons a fold each is worth it:
--config.experiment=cross_validate --config.split.protocol=loso

Not measured: the images are yours.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.data.name, config.data.image_size = "folder", 48
    config.model = {"name": "fer_cnn_simple"}
    config.train.loss, config.train.monitor, config.train.batch_size = (
        "cross_entropy",
        "accuracy",
        32,
    )
    config.train.normalize = "unit"
    config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-3
    config.optimizer.schedule, config.optimizer.warmup = "cosine", 0.05
    config.augment.flip, config.augment.shift = 0.5, 4
    config.data.synthetic_clips = 84 if variant == "debug" else 840
    if variant != "debug":
        config.train.epochs = 40
    return config
