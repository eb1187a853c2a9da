"""RCN-A, a recurrent convolution with attention, on the MEGC2019 composite: data, protocol and
seeds of htnet_megc2019.

python launch.py --config=configs/rcn_a_megc2019.py

Optimiser, weight decay and number of epochs of MEB's notebooks; the epoch is chosen on inner
validation subjects.

Not measured.
"""

from configs import htnet_megc2019


def get_config(variant: str = ""):
    config = htnet_megc2019.get_config(variant)
    config.model = {"name": "rcn_a"}
    config.train.class_weights, config.optimizer.learning_rate = 0.0, 1e-3
    config.optimizer.weight_decay = 1e-3
    if variant == "debug":
        config.model.width = 4
    else:
        config.train.epochs = 60
    return config
