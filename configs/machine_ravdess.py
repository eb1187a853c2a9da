"""RAVDESS: eight emotions from action units averaged over a clip, by machines without epochs, the
five published folds of actors.

python launch.py --config=configs/machine_ravdess.py:svm              # strict
python launch.py --config=configs/machine_ravdess.py:svm_adapted      # by all of the actor's clips
python launch.py --config=configs/machine_ravdess.py:svm_others       # by the actor's other clips

Before the underscore: svm, lda, logistic, trees. Strict: nothing is known of the tested actor.
Adapted: features are standardised by the actor's clips, unlabelled (config.data.per_actor).
"""

from configs import base

MODELS = {
    "svm": {"name": "svm_rbf", "C": (1.0, 3.0, 10.0, 30.0), "gamma": (0.1, 0.3, 1.0)},
    "lda": {"name": "lda", "shrinkage": (0.01, 0.1, 0.3, 0.5), "components": 0},
    "logistic": {"name": "pca_logistic", "C": (0.01, 0.1, 1.0), "components": 0},
    "trees": {
        "name": "boosted_trees",
        "iterations": 100,
        "learning_rate": (0.05, 0.1),
        "leaves": (4, 8),
    },
}
PROTOCOLS = {"": "none", "adapted": "standardize", "others": "standardize_others"}
VARIANTS = tuple(f"{m}_{p}".rstrip("_") for m in MODELS for p in PROTOCOLS)


def get_config(variant: str = ""):
    base.one_of_variants(variant, ("", "debug", *VARIANTS))
    config = base.get_config("debug" if variant == "debug" else "")
    machine, _, protocol = variant.replace("debug", "").partition("_")
    config.experiment, config.data.name = "machine", "ravdess_aus"
    config.split.protocol, config.split.inner = "ravdess", 5
    config.model = MODELS[machine or "svm"]
    config.train.loss, config.train.monitor = "cross_entropy", "accuracy"
    config.train.selection = "last"
    config.data.per_actor = PROTOCOLS[protocol]
    config.data.synthetic_clips = 480
    if variant == "debug":
        config.split.inner, config.data.synthetic_clips = 2, 60
        config.model = {"name": "svm_rbf", "C": (1.0, 10.0), "gamma": 0.3}
    return config
