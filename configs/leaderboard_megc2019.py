r"""Leaderboard of the MEGC2019 composite, leave one subject out: constant, machines, networks,
fusion.

python launch.py --config=configs/leaderboard_megc2019.py --config.tables=docs
python launch.py --config=configs/leaderboard_megc2019.py \
    "--config.entries=('Theirs=theirs.csv; last epoch',)"

A row is a line: its name, and the config file that makes it or the run directory that holds it.
Finished members are not trained again. theirs.csv has the columns id,class, and optionally subject,
one line per clip.

Measured 2026-11-28 on SAMM + CASME II, two shared CPU cores: fusion of machines UF1 0.770
(0.681–0.839), with networks 0.768 (0.678–0.836); with one seed STSTNet 0.724 (0.631–0.804), HTNet
0.742 (0.641–0.827), Off-ApexNet 0.754 (0.668–0.829), SSSNet 0.737 (0.640–0.817). RCN-A is not
measured.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.experiment, config.data.name, config.split.protocol = "leaderboard", "megc2019", "loso"
    config.train.loss, config.train.monitor = "cross_entropy", "uf1"
    config.members = (
        "SVM, raw maps=machine_megc2019:svm_raw",
        "SVM, medians=machine_megc2019:svm",
        "SVM, five maps=machine_megc2019:svm_maps",
        "PCA + LR=machine_megc2019:pca_lr",
        "LDA=machine_megc2019:lda",
        "Off-ApexNet=off_apexnet_megc2019:inner",
        "STSTNet=ststnet_megc2019:inner",
        "SSSNet=sssnet_megc2019:inner",
        "RCN-A=rcn_a_megc2019:inner",
        "HTNet=htnet_megc2019:inner",
    )
    machines = "SVM, medians & SVM, five maps & PCA + LR & LDA"
    config.fused = (
        f"fusion of machines={machines}",
        f"fusion of machines and networks={machines} & STSTNet & HTNet",
    )
    if variant == "debug":
        config.split.protocol, config.split.folds = "group_k_fold", 3
        config.members = (
            "SVM, medians=machine_megc2019:debug",
            "STSTNet=ststnet_megc2019:debug",
        )
        config.fused = ("fusion=SVM, medians & STSTNet",)
    return config
