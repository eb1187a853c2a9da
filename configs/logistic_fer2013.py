"""Multinomial logistic regression on FER2013's standardised pixels, solved by L-BFGS: the floor under every network.

python launch.py --config=configs/logistic_fer2013.py

The penalty is scikit-learn's C = 1: weight_decay = 1 / (C x training rows). An epoch is one iteration, and 300 are three times
scikit-learn's default; by then the loss falls by 1e-4 an iteration. Measured results: docs/results.md.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.model = {"name": "logistic"}
    config.train.batch_size, config.train.normalize, config.train.selection = 0, "pixel", "last"
    config.optimizer.name, config.optimizer.weight_decay, config.optimizer.tolerance = "lbfgs", 1 / 25_838, 1e-4
    if variant != "debug":
        config.train.epochs = 300
    return config
