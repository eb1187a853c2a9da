"""RAVDESS frame by frame: filter by percentile, train, filter by the new model, train again; ever more frames.

python launch.py --config=configs/stn_ravdess_iterative.py                                     # every stage starts anew
python launch.py --config=configs/stn_ravdess_iterative.py --config.filter.weights=carry       # or with the weights before it
python launch.py --config=configs/stn_ravdess_iterative.py --config.filter.stages="('percentile=35','threshold=0.7')"    # two stages, mixed

The regularised network: --config.model.regularised=True --config.optimizer.weight_decay=1e-3
"""

from configs import stn_ravdess


def get_config(variant: str = ""):
    config = stn_ravdess.get_config(variant)
    config.experiment = "iterate_filtering"
    config.filter.stages = ("percentile=70", "percentile=50", "percentile=30")
    if variant == "debug":
        config.filter.stages, config.filter.weights = ("percentile=50",), "carry"
    return config
