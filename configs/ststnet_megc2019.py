"""STSTNet, the honest small baseline, on the MEGC2019 composite: data, protocol and seeds of htnet_megc2019.

python launch.py --config=configs/ststnet_megc2019.py
"""

from configs import htnet_megc2019


def get_config(variant: str = ""):
    config = htnet_megc2019.get_config(variant)
    config.model = {"name": "ststnet"}
    config.optimizer.learning_rate = 3e-3
    if variant != "debug":
        config.train.epochs = 100
    return config
