"""RAVDESS clip by clip: the network of stn_ravdess sees the frames of a clip, attention pools their
features, one decision comes out.

python launch.py --config=configs/stn_ravdess_clips.py
# frame network from AffectNet
python launch.py --config=configs/stn_ravdess_clips.py --config.init.from_run=runs/stn_affectnet

Sixteen evenly sampled frames of each clip. The report's figure `attention` shows which frames
decided.

Real frames: not measured. Drawn actors (command in docs/results.md), 2026-11-24, two shared CPU
cores, 9 min: accuracy 0.419 (0.338–0.512).
"""

from configs import stn_ravdess


def get_config(variant: str = ""):
    config = stn_ravdess.get_config(variant)
    config.data.clip_frames = 4 if variant == "debug" else 16
    config.model = {
        "name": "deep_emotion_clips",
        "variant": "saliency",
        "regularised": False,
        "attention": 32,
    }
    config.train.batch_size, config.train.eval_batch = 16, 32
    return config
