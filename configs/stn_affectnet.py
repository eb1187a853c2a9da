"""AffectNet: the saliency-guided transformer network, to begin RAVDESS' with; seven classes, or the valence's polarity.

python launch.py --config=configs/stn_affectnet.py
python launch.py --config=configs/stn_affectnet.py --config.data.classes=polarity --workdir=runs/stn_polarity
python launch.py --config=configs/stn_ravdess_iterative.py --config.init.from_run=runs/stn_polarity    # every stage begins with it

Trains on Training, a tenth of which selects; tests on the release's Validation, as the field does. Last layers of other widths start anew.
"""

from configs import stn_fer2013


def get_config(variant: str = ""):
    config = stn_fer2013.get_config(variant)
    config.data.name = "affectnet"
    return config
