"""Laboratory: two circles, logistic regression against one hidden layer of 32; five folds, decision
boundaries drawn.

python launch.py --config=configs/lab_circles.py

Reads no data. Measured 2026-11-22, two CPU cores, wall time not recorded: accuracy 0.474 ± 0.024
(logistic) and 0.836 ± 0.010 (hidden layer) over the folds.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.experiment, config.data.name, config.data.source = "lab_circles", "circles", "auto"
    config.train.loss, config.train.monitor = "cross_entropy", "accuracy"
    # steps of Adam, on all rows each
    config.train.batch_size, config.train.epochs = 0, 50 if variant == "debug" else 1000
    config.optimizer.name, config.optimizer.learning_rate = "adam", 0.02
    return config
