"""HTNet detects SAMM's action units, leave one subject out: task and settings of htnet_samm, every
subject tested once.

python launch.py --config=configs/htnet_samm_loso.py

Measured 2026-11-28: macro F1 of the three action units with enough positives 0.494 (0.384–0.579),
always present 0.376; of all thirteen 0.439 (0.289–0.536), always present 0.159.
"""

from configs import htnet_samm


def get_config(variant: str = ""):
    config = htnet_samm.get_config(variant)
    config.experiment, config.split.protocol = "cross_validate", "loso"
    return config
