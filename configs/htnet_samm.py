"""HTNet (notebook size) detects action units from SAMM's onset-to-apex flow maps; no subject is in
two parts of the split.

python launch.py --config=configs/htnet_samm.py

Settings were chosen by cross-validation inside the training and validation subjects.

Measured 2026-11-22, two shared CPU cores, wall time not recorded: macro F1 0.458 (0.325–0.589) on
29 clips of 6 test subjects; always positive: 0.254.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.model = {
        "name": "htnet",
        "patch_size": 7,
        "dim": 64,
        "heads": 4,
        "num_hierarchies": 2,
        "block_repeats": 2,
        "dropout": 0.0,
    }
    train, optimizer, augment = config.train, config.optimizer, config.augment
    train.class_weights, train.monitor = 0.5, "roc_auc"
    optimizer.learning_rate, optimizer.weight_decay, optimizer.clip_norm = 3e-4, 0.05, 1.0
    optimizer.schedule, optimizer.warmup = "cosine", 0.05
    augment.flip, augment.shift = 0.5, 1
    if variant != "debug":
        train.epochs = 40
    return config
