"""HTNet in the published size (139.6 M parameters) and training (Adam 5e-5, batch 256, 800 epochs,
landmark regions) on the composite.

python launch.py --config=configs/htnet_paper_megc2019.py

For an accelerator: every fold holds 2.2 GB of weights and optimiser state. Trials run one after
another in one compiled program.

Not measured in full. Two CPU cores take 14 s an epoch of one fold (SAMM + CASME II).
"""

from configs import htnet_megc2019


def get_config(variant: str = ""):
    config = htnet_megc2019.get_config(variant)
    config.data.regions = "landmarks"
    config.model = {
        "name": "htnet",
        "patch_size": 7,
        "dim": 256,
        "heads": 3,
        "num_hierarchies": 3,
        "block_repeats": (2, 2, 10),
    }
    (
        config.train.batch_size,
        config.train.class_weights,
        config.train.trial_axis,
        config.train.normalize,
    ) = 256, 0.0, "map", "unit"
    optimizer = config.optimizer
    optimizer.name, optimizer.learning_rate, optimizer.weight_decay, optimizer.clip_norm = (
        "adam",
        5e-5,
        0.0,
        0.0,
    )
    optimizer.schedule, optimizer.warmup = "constant", 0.0
    config.augment.update({"flip": 0.0, "shift": 0})
    config.log.variables = False
    if variant == "debug":
        config.model.update({"block_repeats": (1, 1, 1), "dim": 12})
    else:
        config.train.epochs, config.split.seeds = 800, 1
    return config
