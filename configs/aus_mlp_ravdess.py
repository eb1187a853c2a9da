"""RAVDESS: eight emotions from action units averaged over a clip, by a small MLP; the five published folds of actors.

python launch.py --config=configs/aus_mlp_ravdess.py
python launch.py --config=configs/aus_mlp_ravdess.py --config.split.protocol=group_k_fold --config.split.seed=1    # folds of a seed's own

The training actors of each fold are dealt into five parts that validate in turn; the test actors never take part. A seed's folds made by
group_k_fold with split.seed=2020 are the published ones. Measured results: docs/results.md.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
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
