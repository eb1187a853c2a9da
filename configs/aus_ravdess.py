"""RAVDESS' averaged action units: machines beside a network and their fusion, in one table of three
named protocols, the five published folds of actors.

python launch.py --config=configs/aus_ravdess.py --config.tables=docs/ravdess

strict: nothing is known of the tested actor. adapted: features are standardised by all of the
actor's clips, unlabelled. others: the same without the tested clip. Members and weights of a fusion
are chosen inside each fold by its training actors.
"""

from configs import base

NAMES = {"SVM": "svm", "LDA": "lda", "logistic regression": "logistic", "boosted trees": "trees"}
PROTOCOLS = ("strict", "adapted", "others")


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.experiment, config.data.name = "leaderboard", "ravdess_aus"
    config.split.protocol = "ravdess"
    config.train.loss, config.train.monitor = "cross_entropy", "accuracy"
    config.data.synthetic_clips = 60 if variant == "debug" else 480
    members, fused = [], []
    for protocol in PROTOCOLS:
        suffix = "" if protocol == "strict" else f"_{protocol}"
        rows = [f"{name}, {protocol}" for name in (*NAMES, "MLP")]
        files = [f"machine_ravdess:{machine}{suffix}" for machine in NAMES.values()]
        files.append(f"aus_mlp_ravdess{suffix.replace('_', ':')}")
        members += [f"{row}={file}" for row, file in zip(rows, files, strict=True)]
        fused.append(f"fusion, {protocol}={' & '.join(rows)}")
    config.members, config.fused = tuple(members), tuple(fused)
    if variant == "debug":
        config.members = ("SVM=machine_ravdess:debug", "MLP=aus_mlp_ravdess:debug")
        config.fused = ("fusion=SVM & MLP",)
    return config
