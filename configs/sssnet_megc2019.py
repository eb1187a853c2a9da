"""SSSNet, a shallow network, on the MEGC2019 composite: data, protocol and seeds of htnet_megc2019.

python launch.py --config=configs/sssnet_megc2019.py

The weight decay is that of MEB's notebooks, which train 200 epochs at a rate of 1e-4; here 60 at
1e-3. The epoch is chosen on inner validation subjects.

Measured 2026-11-28 on SAMM + CASME II with one seed (`:inner`, `--config.split.seeds=1`): UF1 0.737
(0.640–0.817).
"""

from configs import htnet_megc2019


def get_config(variant: str = ""):
    config = htnet_megc2019.get_config(variant)
    small = {"widths": (4, 4, 8)} if variant == "debug" else {}
    config.model = {"name": "sssnet", **small}
    config.train.class_weights, config.optimizer.learning_rate = 0.0, 1e-3
    config.optimizer.weight_decay = 1e-3
    if variant != "debug":
        config.train.epochs = 60
    return config
