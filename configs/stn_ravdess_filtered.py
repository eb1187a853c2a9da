"""RAVDESS frame by frame: which frames to train on? The network of stn_ravdess on all frames, then
on what each filter keeps.

python launch.py --config=configs/stn_ravdess_filtered.py
python launch.py --config=configs/stn_ravdess_filtered.py \\
    --config.filter.stages="('percentile=50','every=2')"
# frames judged by AffectNet's network
python launch.py --config=configs/stn_ravdess_filtered.py --config.filter.judge=runs/stn_affectnet

Every stage is a run directory, all folds one program; finished stages are not trained again.
study.html compares them.

Real frames: not measured. Drawn actors (command in docs/results.md), 2026-11-23, two shared CPU
cores: all frames 0.494 (0.375–0.594) in 889 s, percentile=60 0.475 (0.356–0.600) in 456 s.
"""

from configs import stn_ravdess


def get_config(variant: str = ""):
    config = stn_ravdess.get_config(variant)
    config.experiment = "filter_frames"
    config.filter.stages = (
        "percentile=35",
        "threshold=0.5",
        "threshold_balanced=0.5",
        "au45=0.75",
        "gaussian=50",
        "gaussian_video=50",
        "every=3",
    )
    if variant == "debug":
        config.filter.stages = ("gaussian_video=50",)
    return config
