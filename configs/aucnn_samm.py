"""SimpleAUCNN, the notebook's small baseline: data, split and training of htnet_samm.

python launch.py --config=configs/aucnn_samm.py
"""

from configs import htnet_samm


def get_config(variant: str = ""):
    config = htnet_samm.get_config(variant)
    config.model = {"name": "aucnn"}
    return config
