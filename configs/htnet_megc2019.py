"""HTNet (notebook size) on the MEGC2019 composite, three classes, leave one subject out: every fold
and seed in one program.

python launch.py --config=configs/htnet_megc2019.py
python launch.py --config=configs/htnet_megc2019.py:inner    # validation subjects take turns

The composite is made of those of SAMM, CASME II and SMIC that are under the data root. Learning
rate and class weights were chosen on inner validation rows, by the sweep in docs/results.md.
':inner': each seed validates by another fifth of a fold's training subjects, so that every training
row is predicted by networks that have not seen it, which a fusion chooses its weights by.

Measured 2026-11-23 on SAMM + CASME II, five seeds, two CPU cores, 444 s: UF1 0.726 (0.644–0.789).
"""

from configs import base

VARIANTS = ("", "inner", "debug")


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.get_config("debug" if variant == "debug" else "")
    config.experiment = "cross_validate"
    config.data.name = "megc2019"
    config.split.protocol = "loso"
    config.model = {
        "name": "htnet",
        "patch_size": 7,
        "dim": 64,
        "heads": 4,
        "num_hierarchies": 2,
        "block_repeats": 2,
        "dropout": 0.0,
    }
    config.train.loss, config.train.monitor, config.train.batch_size = "cross_entropy", "uf1", 32
    config.train.class_weights = 0.5
    config.optimizer.learning_rate, config.optimizer.weight_decay, config.optimizer.clip_norm = (
        1e-3,
        0.05,
        1.0,
    )
    config.optimizer.schedule, config.optimizer.warmup = "cosine", 0.05
    config.augment.flip, config.augment.shift = 0.5, 1
    if variant == "debug":
        config.split.protocol, config.split.folds = "group_k_fold", 3
    else:
        config.train.epochs, config.split.seeds = 30, 5
    if variant == "inner":
        config.split.inner = 5
    return config
