"""RAVDESS frame by frame: filter by percentile, train, filter by the new model, train again.

# every stage from initial weights
python launch.py --config=configs/stn_ravdess_iterative.py
# or from those of the stage before
python launch.py --config=configs/stn_ravdess_iterative.py --config.filter.weights=carry
# two stages, mixed
python launch.py --config=configs/stn_ravdess_iterative.py \\
    --config.filter.stages="('percentile=35','threshold=0.7')"

Regularised: --config.model.regularised=True --config.optimizer.weight_decay=1e-3

Real frames: not measured. Drawn actors (command in docs/results.md), 2026-11-23, two shared CPU
cores: second stage, percentile=60, 0.444 (0.319–0.569) in 274 s.
"""

from configs import stn_ravdess


def get_config(variant: str = ""):
    config = stn_ravdess.get_config(variant)
    config.experiment = "iterate_filtering"
    config.filter.stages = ("percentile=70", "percentile=50", "percentile=30")
    if variant == "debug":
        config.filter.stages, config.filter.weights = ("percentile=50",), "carry"
    return config
