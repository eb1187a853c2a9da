"""AffectNet: the saliency-guided transformer network that RAVDESS can start from; seven classes, or
the valence's polarity.

python launch.py --config=configs/stn_affectnet.py
python launch.py --config=configs/stn_affectnet.py --config.data.classes=polarity \\
    --workdir=runs/stn_polarity
# every stage starts from it
python launch.py --config=configs/stn_ravdess_iterative.py --config.init.from_run=runs/stn_polarity

Trains on Training, a tenth of which selects the epoch; tests on the release's Validation, as is
usual. A last layer of another width is initialised afresh.

Not measured.
"""

from configs import stn_fer2013


def get_config(variant: str = ""):
    config = stn_fer2013.get_config(variant)
    config.data.name = "affectnet"
    return config
