"""RAVDESS' averaged action units: machines beside a network and their fusion, in one table of three
named protocols, the five published folds of actors.

python launch.py --config=configs/aus_ravdess.py --config.tables=docs/ravdess
python launch.py --config=configs/aus_ravdess.py:svm            # one member alone, strict
python launch.py --config=configs/aus_ravdess.py:svm_adapted    # also lda, logistic, trees; _others

strict: nothing is known of the tested actor. adapted: features are standardised by all of the
actor's clips, unlabelled. others: the same without the tested clip. Members and weights of a fusion
are chosen inside each fold by its training actors.

Measured 2026-11-28, two shared CPU cores, 28 min of which 24 are the trees': accuracy of the fusion
0.610 (0.563–0.654) strict, 0.729 (0.682–0.773) adapted, 0.730 (0.680–0.776) others.
"""

from configs import base

NAMES = {"SVM": "svm", "LDA": "lda", "logistic regression": "logistic", "boosted trees": "trees"}
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
PROTOCOLS = {"strict": "none", "adapted": "standardize", "others": "standardize_others"}
SUFFIXES = {"strict": "", "adapted": "_adapted", "others": "_others"}
VARIANTS = ("", "debug", *(m + s for m in MODELS for s in SUFFIXES.values()))


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = base.get_config("debug" if variant == "debug" else "")
    config.data.name, config.split.protocol = "ravdess_aus", "ravdess"
    config.train.loss, config.train.monitor = "cross_entropy", "accuracy"
    config.data.synthetic_clips = 60 if variant == "debug" else 480
    machine, _, protocol = variant.partition("_")
    if machine in MODELS:
        config.experiment, config.model = "machine", MODELS[machine]
        config.split.inner, config.train.selection = 5, "last"
        config.data.per_actor = PROTOCOLS[protocol or "strict"]
        return config
    config.experiment = "leaderboard"
    members, fused = [], []
    for protocol, suffix in SUFFIXES.items():
        rows = [f"{name}, {protocol}" for name in (*NAMES, "MLP")]
        files = [f"aus_ravdess:{machine}{suffix}" for machine in NAMES.values()]
        files.append(f"aus_mlp_ravdess{suffix.replace('_', ':')}")
        members += [f"{row}={file}" for row, file in zip(rows, files, strict=True)]
        fused.append(f"fusion, {protocol}={' & '.join(rows)}")
    config.members, config.fused = tuple(members), tuple(fused)
    if variant == "debug":
        config.data.synthetic_subjects = 8  # the LDA's five parts need five in every fold
        config.members = ("LDA=aus_ravdess:lda", "MLP=aus_mlp_ravdess:debug")
        config.fused = ("fusion=LDA & MLP",)
    return config
