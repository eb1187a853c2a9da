"""HTNet (notebook size) detects action units from SAMM's onset-to-apex flow maps; subjects kept apart.

python launch.py --config=configs/htnet_samm.py
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.model = {"name": "htnet", "patch_size": 7, "dim": 64, "heads": 4, "num_hierarchies": 2, "block_repeats": 2}
    return config
