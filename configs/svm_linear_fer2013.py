"""Linear support vector machine on FER2013's standardised pixels, one class against the rest
(liblinear through scikit-learn).

python launch.py --config=configs/svm_linear_fer2013.py

C is the best of three on the validation rows. Measured 2026-11-22, two shared CPU cores, 2.2 min:
PublicTest accuracy 0.365 (0.349–0.380), ECE after temperature scaling 0.009.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.experiment = "svm"
    config.model = {
        "name": "svm",
        "kernel": "linear",
        "C": (1e-6, 1e-5, 1e-4),
        "components": 0,
        "max_iter": 1000,
    }
    config.train.selection = "last"
    return config
