"""FER2013: Deep-Emotion behind a spatial transformer that a saliency map guides; the other variants by one flag.

python launch.py --config=configs/stn_fer2013.py
python launch.py --config=configs/stn_fer2013.py --config.model.variant=original --config.data.map=none    # or baseline: no transformer

Maps are spectral residuals of each face. Class weights as in Díez Benito's code (inverse frequency). Measured results: docs/results.md.
"""

from configs import deep_emotion_fer2013


def get_config(variant: str = ""):
    config = deep_emotion_fer2013.get_config(variant)
    config.model = {"name": "deep_emotion", "variant": "saliency", "regularised": False}
    config.data.map = "saliency"
    config.train.class_weights = 1.0
    return config
