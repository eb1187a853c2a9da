"""RAVDESS frame by frame: which frames to train on? The network of stn_ravdess on all frames, then on what each filter leaves.

python launch.py --config=configs/stn_ravdess_filtered.py
python launch.py --config=configs/stn_ravdess_filtered.py --config.filter.stages="('percentile=50','every=2')"
python launch.py --config=configs/stn_ravdess_filtered.py --config.filter.judge=runs/stn_affectnet    # frames judged by AffectNet's network

Every stage is a run directory, all folds one program; stages that are finished are not trained again. study.html compares them.
"""

from configs import stn_ravdess


def get_config(variant: str = ""):
    config = stn_ravdess.get_config(variant)
    config.experiment = "filter_frames"
    config.filter.stages = ("percentile=35", "threshold=0.5", "threshold_balanced=0.5", "au45=0.75", "gaussian=50", "gaussian_video=50",
                             "every=3")
    if variant == "debug":
        config.filter.stages = ("gaussian_video=50",)
    return config
