"""Deep-Emotion (a small CNN behind a spatial transformer) on FER2013: without the transformer
('baseline'), or 'original'.

python launch.py --config=configs/deep_emotion_fer2013.py --config.model.variant=original

Not measured. stn_fer2013 has a comparison of the variants after six epochs.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "deep_emotion", "variant": "baseline"}
    config.train.normalize = "symmetric"
    config.optimizer.name, config.optimizer.learning_rate = "adam", 1e-3
    config.augment.flip = 0.5
    if variant != "debug":
        config.train.epochs, config.train.patience = 100, 30
    return config
