"""Off-ApexNet, two convolutions on the flow alone, on the MEGC2019 composite: data, protocol and
seeds of htnet_megc2019.

python launch.py --config=configs/off_apexnet_megc2019.py

Training as in sssnet_megc2019.

Measured 2026-11-28 on SAMM + CASME II with one seed (`:inner`, `--config.split.seeds=1`), 18 min of
a shared core: UF1 0.754 (0.668–0.829).
"""

from configs import sssnet_megc2019


def get_config(variant: str = ""):
    config = sssnet_megc2019.get_config(variant)
    small = {"widths": (4, 4, 8)} if variant == "debug" else {}
    config.model = {"name": "off_apexnet", **small}
    return config
