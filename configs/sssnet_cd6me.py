"""SSSNet detects 12 action units in whichever of the six releases of CD6ME are there, each tested
by a network that was trained on the others.

python launch.py --config=configs/sssnet_cd6me.py

CASME, CASME II, CAS(ME)^3 part A, SAMM, 4DME and MMEW; at least two with their workbooks. Five
seeds, as the benchmark has it; learning rate and epochs as in sssnet_megc2019. Epoch and thresholds
are chosen on held-out subjects of the training releases.

Not measured.
"""

from configs import base


def get_config(variant: str = ""):
    config = base.get_config(variant)
    config.experiment, config.data.name = "cross_validate", "cd6me"
    config.split.protocol = "leave_one_dataset_out"
    small = {"widths": (4, 4, 8)} if variant == "debug" else {}
    config.model = {"name": "sssnet", **small}
    config.train.monitor, config.train.batch_size = "roc_auc", 32
    config.optimizer.learning_rate, config.optimizer.weight_decay = 1e-3, 1e-3
    config.optimizer.schedule, config.optimizer.warmup = "cosine", 0.05
    config.optimizer.clip_norm = 1.0
    config.augment.flip, config.augment.shift = 0.5, 1
    if variant != "debug":
        config.train.epochs, config.split.seeds = 60, 5
    return config
