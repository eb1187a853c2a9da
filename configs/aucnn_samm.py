"""SimpleAUCNN, a small baseline for SAMM's action units: data, split and training of htnet_samm.

python launch.py --config=configs/aucnn_samm.py

Measured 2026-11-22, two shared CPU cores, wall time not recorded: macro F1 0.552 (0.479–0.833) on
29 clips of 6 test subjects; always positive: 0.254.
"""

from configs import htnet_samm


def get_config(variant: str = ""):
    config = htnet_samm.get_config(variant)
    config.model = {"name": "aucnn"}
    return config
