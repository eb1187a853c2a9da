"""HTNet detects CASME II's action units, leave one subject out; settings of htnet_samm.

python launch.py --config=configs/htnet_casme2_au.py

Not measured.
"""

from configs import htnet_samm_loso


def get_config(variant: str = ""):
    config = htnet_samm_loso.get_config(variant)
    config.data.name = "casme2"
    return config
