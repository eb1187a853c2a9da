"""RBF support vector machine on the MEGC2019 composite, leave one subject out, each channel of each
map by its own median.

python launch.py --config=configs/svm_megc2019.py
python launch.py --config=configs/svm_megc2019.py:raw     # maps as published
python launch.py --config=configs/svm_megc2019.py:maps    # and four more maps of each clip

Classes are balanced; mirrored maps are fitted on too, and a clip's score is the mean of its own and
its mirror image's. C and gamma are chosen in every fold by five parts of its training subjects.
"""

from configs import base

VARIANTS = ("", "raw", "maps", "debug")
MORE_MAPS = "flow,flow_causal_0,flow_causal_1,flow_causal_2,flow_causal_3"


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.get_config("debug" if variant == "debug" else "")
    config.experiment = "machine"
    config.data.name = "megc2019"
    config.split.protocol, config.split.inner = "loso", 5
    config.model = {
        "name": "svm_rbf",
        "C": (1.0, 3.0, 10.0, 30.0),
        "gamma": (0.03, 0.1, 0.3, 1.0),
    }
    config.train.loss, config.train.monitor, config.train.selection = "cross_entropy", "uf1", "last"
    config.train.class_weights, config.train.class_weights_max = 1.0, 1000.0
    config.train.normalize = "standardize" if variant == "raw" else "median"
    config.augment.flip, config.train.tta = 0.5, "flip"
    if variant == "maps":
        config.data.maps = MORE_MAPS
    if variant == "debug":
        config.split.protocol, config.split.folds, config.split.inner = "group_k_fold", 3, 2
        config.model = {"name": "svm_rbf", "C": (1.0, 10.0), "gamma": 0.3}
    return config
