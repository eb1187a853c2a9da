"""RAVDESS: eight emotions from action units averaged over a clip, a small MLP, the five published
folds of actors.

python launch.py --config=configs/aus_mlp_ravdess.py
# other folds
python launch.py --config=configs/aus_mlp_ravdess.py --config.split.protocol=group_k_fold \\
    --config.split.seed=1

The training actors of each fold are divided into five parts, each of which validates for one seed;
test actors take no part. group_k_fold with split.seed=2020 makes the published folds.

Measured 2026-11-23, two shared CPU cores, wall time not recorded: accuracy 0.598 (0.553–0.641) as
the mean of five seeds, 0.609 (0.566–0.650) with the seeds fused (experiments.fuse).
"""

from configs import base

PROTOCOLS = {"adapted": "standardize", "others": "standardize_others"}  # as aus_ravdess names them
VARIANTS = ("", "debug", *PROTOCOLS)


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.get_config("debug" if variant == "debug" else "")
    config.data.per_actor = PROTOCOLS.get(variant, "none")
    config.experiment, config.data.name = "cross_validate", "ravdess_aus"
    config.split.protocol, config.split.inner, config.split.seeds = "ravdess", 5, 5
    config.model = {"name": "mlp", "hidden": (256,), "batch_norm": False, "dropout": 0.3}
    config.train.loss, config.train.monitor, config.train.batch_size = "cross_entropy", "loss", 64
    config.optimizer.learning_rate, config.optimizer.weight_decay = 3e-3, 3.0
    config.data.synthetic_clips = 60 if variant == "debug" else 480
    if variant == "debug":
        config.split.inner, config.split.seeds = 2, 2
    else:
        config.train.epochs = 100
    return config
