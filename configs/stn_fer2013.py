"""FER2013: Deep-Emotion behind a spatial transformer that a saliency map guides; other variants by
one flag.

python launch.py --config=configs/stn_fer2013.py
# or baseline: no transformer
python launch.py --config=configs/stn_fer2013.py --config.model.variant=original \\
    --config.data.map=none

Maps are spectral residuals of each face. Class weights are inverse frequencies, as in Díez Benito's
code.

Measured 2026-11-23, six epochs of about 90 s without class weights, two shared CPU cores:
PublicTest accuracy 0.463 (0.447–0.480); original 0.492 (0.476–0.508), baseline 0.476 (0.459–0.492).
"""

from configs import deep_emotion_fer2013


def get_config(variant: str = ""):
    config = deep_emotion_fer2013.get_config(variant)
    config.model = {"name": "deep_emotion", "variant": "saliency", "regularised": False}
    config.data.map = "saliency"
    config.train.class_weights = 1.0
    return config
