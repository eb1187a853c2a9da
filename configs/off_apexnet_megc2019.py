"""Off-ApexNet, two convolutions on the flow alone, on the MEGC2019 composite: data, protocol and
seeds of htnet_megc2019.

python launch.py --config=configs/off_apexnet_megc2019.py

Optimiser, weight decay and number of epochs of MEB's notebooks; the epoch is chosen on inner
validation subjects.

Not measured.
"""

from configs import htnet_megc2019


def get_config(variant: str = ""):
    config = htnet_megc2019.get_config(variant)
    config.model = {"name": "off_apexnet"}
    config.train.class_weights, config.optimizer.learning_rate = 0.0, 1e-3
    config.optimizer.weight_decay = 1e-3
    if variant == "debug":
        config.model.widths = (4, 4, 8)
    else:
        config.train.epochs = 60
    return config
