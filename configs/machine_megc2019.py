"""Machines without epochs on the MEGC2019 composite, leave one subject out: RBF support vectors,
PCA + logistic regression, LDA.

python launch.py --config=configs/machine_megc2019.py           # svm, each channel less its median
python launch.py --config=configs/machine_megc2019.py:svm_raw   # maps as published
python launch.py --config=configs/machine_megc2019.py:svm_maps  # and four more maps of each clip

Also pca_lr, lda, each with _raw and _maps. Classes are balanced; mirrored maps are fitted on too,
and a clip's score is the mean of its own and its mirror image's. Hyper-parameters are chosen in
every fold by five parts of its training subjects.

Measured 2026-11-28 on SAMM + CASME II, two shared CPU cores: svm, 75 s, UF1 0.762 (0.675–0.835);
svm_raw 0.713 (0.622–0.791); svm_maps 0.756 (0.653–0.834).
"""

from configs import base

MODELS = {
    "svm": {"name": "svm_rbf", "C": (1.0, 3.0, 10.0, 30.0), "gamma": (0.03, 0.1, 0.3, 1.0)},
    "pca_lr": {
        "name": "pca_logistic",
        "C": (0.01, 0.03, 0.1, 0.3, 1.0),
        "components": (30, 60, 120),
    },
    "lda": {"name": "lda", "shrinkage": (0.1, 0.3, 0.5, 0.7, 0.9), "components": (30, 60, 120)},
}
MAPS = "flow,flow_causal_0,flow_causal_1,flow_causal_2,flow_causal_3"
VARIANTS = ("", "debug", *(f"{m}{s}" for m in MODELS for s in ("", "_raw", "_maps")))


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.get_config("debug" if variant == "debug" else "")
    config.experiment = "machine"
    config.data.name = "megc2019"
    config.split.protocol, config.split.inner = "loso", 5
    machine = variant.removesuffix("_raw").removesuffix("_maps")
    config.model = MODELS.get(machine, MODELS["svm"])
    config.train.loss, config.train.monitor, config.train.selection = "cross_entropy", "uf1", "last"
    config.train.class_weights, config.train.class_weights_max = 1.0, 1000.0
    config.train.normalize = "standardize" if variant.endswith("_raw") else "median"
    config.augment.flip, config.train.tta = 0.5, "flip"
    if variant.endswith("_maps"):
        config.data.maps = MAPS
    if variant == "debug":
        config.split.protocol, config.split.folds, config.split.inner = "group_k_fold", 3, 2
        config.model = {"name": "svm_rbf", "C": (1.0, 10.0), "gamma": 0.3}
    return config
