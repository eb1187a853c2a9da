"""RAVDESS frame by frame: Deep-Emotion behind a saliency-guided spatial transformer, on all frames;
clips decided from their frames.

python launch.py --config=configs/stn_ravdess.py
# or original
python launch.py --config=configs/stn_ravdess.py --config.model.variant=baseline \\
    --config.data.map=none

The five published folds of actors, as trials of one program. Settings of Díez Benito's code, except
the number of epochs, which that code chose on the test fold.

Real frames: not measured. On drawn actors: see stn_ravdess_filtered, stage `all`.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.experiment, config.data.name, config.data.map, config.data.image_size = (
        "cross_validate",
        "ravdess",
        "saliency",
        48,
    )
    config.split.protocol = "ravdess"
    config.model = {"name": "deep_emotion", "variant": "saliency", "regularised": False}
    config.train.loss, config.train.monitor, config.train.normalize = (
        "cross_entropy",
        "loss",
        "symmetric",
    )
    config.train.batch_size, config.train.patience = 128, 10
    config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-3
    config.data.synthetic_subjects, config.data.synthetic_clips = (
        (6, 24) if variant == "debug" else (10, 160)
    )
    if variant == "debug":
        config.data.synthetic_frames = 5
    else:
        config.train.epochs = 40
    return config
