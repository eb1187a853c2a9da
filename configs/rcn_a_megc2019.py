"""RCN-A, a recurrent convolution with attention, on the MEGC2019 composite: data, protocol and
seeds of htnet_megc2019.

python launch.py --config=configs/rcn_a_megc2019.py

Training as in sssnet_megc2019.

Not measured.
"""

from configs import sssnet_megc2019


def get_config(variant: str = ""):
    config = sssnet_megc2019.get_config(variant)
    small = {"width": 4} if variant == "debug" else {}
    config.model = {"name": "rcn_a", **small}
    return config
