"""Principal components and logistic regression on the MEGC2019 composite: data, protocol, mirrored
maps and inner choice of svm_megc2019.

python launch.py --config=configs/pca_lr_megc2019.py
python launch.py --config=configs/pca_lr_megc2019.py:maps    # and four more maps of each clip
"""

from configs import svm_megc2019


def get_config(variant: str = ""):
    config = svm_megc2019.get_config(variant)
    with config.unlocked():
        config.model = {
            "name": "pca_logistic",
            "C": (0.01, 0.1) if variant == "debug" else (0.01, 0.03, 0.1, 0.3, 1.0),
            "components": 8 if variant == "debug" else (30, 60, 120),
        }
    return config
