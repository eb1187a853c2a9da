"""Laboratory: digits moved after training, dense (186,664 parameters) against convolutional (183,690); accuracy against shift drawn.

python launch.py --config=configs/lab_digits.py

scikit-learn's digits; with --config.data.source=release, and ever after, MNIST and mnist_corrupted/translate, which it downloads.
Measured results: docs/results.md.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.experiment, config.data.name, config.data.source = "lab_digits", "digits", "auto"
    config.split.protocol, config.split.folds, config.split.val_fraction = "stratified_group_k_fold", 4, 0.1
    config.train.loss, config.train.monitor, config.train.selection = "cross_entropy", "accuracy", "last"
    config.train.batch_size, config.train.normalize = 32, "unit"
    config.train.epochs = 1 if variant == "debug" else 6
    config.optimizer.name, config.optimizer.learning_rate, config.optimizer.schedule = "adam", 2e-3, "cosine"
    return config
