"""SimpleAUCNN, the notebook's small baseline, on the same task and split as htnet_samm.

python launch.py --config=configs/aucnn_samm.py
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.model = {"name": "aucnn"}
    return config
