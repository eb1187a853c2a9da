"""Support vector machine with the RBF kernel on the leading principal components of FER2013's pixels (libsvm through scikit-learn).

python launch.py --config=configs/svm_rbf_fer2013.py

The kernel is exact and sees every training row; only the pixels are cut down. On all 2,304 of them libsvm takes hours.
C is the best of three on the validation rows. Measured results: docs/results.md.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.fer2013(variant)
    config.experiment = "svm"
    components = 16 if variant == "debug" else 200  # 89 % of the variance
    config.model = {"name": "svm", "kernel": "rbf", "C": (3.0, 10.0, 30.0), "gamma": "scale", "components": components}
    config.train.selection = "last"
    return config
