"""Multinomial logistic regression on FER2013's standardised pixels, solved by L-BFGS: the lower
bound for every network.

python launch.py --config=configs/logistic_fer2013.py

The penalty, weight_decay = 1 / (C x training rows) in scikit-learn's terms, is the best of 0.03,
0.1, 0.3 and 1 on validation rows; scikit-learn's default C = 1 overfits. An epoch is one iteration.

Measured 2026-11-26, three seeds, two shared CPU cores, 3.4 min: PublicTest accuracy
0.371 (0.355–0.387), ECE 0.015 with and without temperature scaling.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "logistic"}
    config.train.batch_size, config.train.normalize, config.train.selection = 0, "pixel", "last"
    config.optimizer.name, config.optimizer.weight_decay, config.optimizer.tolerance = (
        "lbfgs",
        0.1,
        1e-4,
    )
    if variant != "debug":
        config.train.epochs = 300
    return config
