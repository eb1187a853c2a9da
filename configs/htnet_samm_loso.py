"""HTNet detects SAMM's action units, leave one subject out: task and settings of htnet_samm, every
subject tested once.

python launch.py --config=configs/htnet_samm_loso.py

Not measured.
"""

from configs import htnet_samm


def get_config(variant: str = ""):
    config = htnet_samm.get_config(variant)
    config.experiment, config.split.protocol = "cross_validate", "loso"
    return config
