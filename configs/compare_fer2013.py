"""Classifiers on FER2013 as compared by Angel 2021 (Table 8.2): logistic regression, fully
connected, CNNs, a strong network.

python launch.py --config=configs/compare_fer2013.py
# on a GPU
python launch.py --config=configs/compare_fer2013.py \\
    "--config.members=('cnn_thesis_fer2013=0.66 PrivateTest','vgg_fer2013')"

Each member has a run directory of its own; --config.split.seeds=3 trains three seeds of each as
trials. Wall time and values: those of the members, in their own files; together in one command: not
measured.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.experiment = "compare_classifiers"
    config.members = (
        "logistic_fer2013=0.33 PrivateTest",
        "svm_linear_fer2013",
        "svm_rbf_fer2013",
        "mlp_fer2013=0.39 PrivateTest",
        "cnn_simple_fer2013=0.5391 both",
        "cnn_pytorch_fer2013=0.6213 both",
        "cnn_thesis_fer2013=0.66 PrivateTest",
        "vgg_small_fer2013",
    )
    if variant == "debug":
        config.members = (
            "logistic_fer2013:debug=0.33 PrivateTest",
            "mlp_fer2013:debug=0.39 PrivateTest",
        )
    return config
