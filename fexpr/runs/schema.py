"""Every field of a config, once: type, unit, constraint. A config file takes `get_config()` and overrides what differs."""

from __future__ import annotations

import inspect
import re

import ml_collections
from ml_collections import ConfigDict

from fexpr import extensions
from fexpr.data import section
from fexpr.errors import UserError
from fexpr.runs.spec import EXPERIMENTS, LABORATORIES, OF_TRIALS, STUDIES

VARIANTS = ("", "debug")


def get_config(variant: str = "") -> ConfigDict:
    """The defaults. `variant`: what stands behind the colon in `--config=configs/x.py:debug`; '' or 'debug'.

    Raises:
      UserError: unknown variant.
    """
    if variant not in VARIANTS:
        raise UserError(f"unknown config variant {variant!r}", fix="use the config as it is, or with ':debug'")
    config = ConfigDict(type_safe=True)
    config.experiment = "fit"  # a name of experiments.EXPERIMENTS
    config.seed = 0  # initial weights, shuffling, dropout, augmentation; >= 0

    config.extensions = ()  # modules of your own that register data sets, models, …: 'my_lab.faces', or files: 'lab/my_faces.py'
    config.members = ()  # of compare_classifiers: config files, each with its published accuracy: 'mlp_fer2013=0.39 PrivateTest', ...
    config.sweep = ()  # as --sweep: 'optimizer.learning_rate=1e-4,3e-4', ...; every combination is a run

    config.data = data = section.defaults()
    config.split = split = ConfigDict()
    split.protocol = "holdout"  # or official, ravdess (five published folds of actors), loso, group_k_fold, stratified_group_k_fold,
    #   repeated_holdout, leave_one_dataset_out, file
    split.folds = 5  # of the k-fold protocols
    split.repeats = 10  # of 'repeated_holdout'
    split.file = ""  # 'file': a CSV with the columns that docs/data.md shows
    split.seeds = 1  # repeats of every fold with another seed: seed, seed + 1, ...
    split.test_fraction = 0.2  # of the subjects
    split.val_fraction = 0.2  # of the remaining subjects; they select epoch and thresholds
    split.inner = 0  # parts of a fold's training subjects that validate in turn, a seed each (see split.seeds); 0 = the same for all seeds
    split.val = "training"  # 'official': val_fraction of its training rows, stratified, 'PublicTest', or 'none' (final training)
    split.test = "auto"  # 'official': 'PublicTest', 'PrivateTest', 'both', or 'auto' (what is there and does not validate)
    split.train_share = 1.0  # of each class's training rows, (0, 1]: how much a result owes to the number of labels
    split.seed = 42  # scikit-learn's GroupShuffleSplit(random_state)

    config.model = ConfigDict({"name": ""})  # a name of fexpr.models.MODELS, and its constructor arguments

    config.init = init = ConfigDict()
    init.from_run = ""  # run directory of the same model, whose weights a new run begins with; a last layer of another width starts anew
    init.trial = 0  # of init.from_run: fold x seed, numbered as in its predictions.npz
    init.from_file = ""  # or a file of weights (Keras, PyTorch, safetensors): a path, or a name in the folder weights/ of the data root
    init.anew = ""  # regex of parameters (as 'top/hidden_0/kernel') that are not taken from there
    init.features = False  # True: the trunk stays as it is and sees every image once, unaugmented; the last part is trained on its features

    config.train = train = ConfigDict()
    train.epochs = 50  # >= 1
    train.batch_size = 16  # rows over all devices; 0 = all training rows
    train.loss = "bce"  # 'bce', 'focal' (action units); 'cross_entropy' (one class)
    train.targets = "presence"  # of an action unit: 'presence' (0 or 1) or 'intensity' (A-E as 0.2 to 1.0); of FERPlus: 'soft' (votes)
    train.focal_gamma = 2.0  # 'focal' only
    train.label_smoothing = 0.0  # 'cross_entropy' only, [0, 1)
    train.class_weights = 0.0  # 0 = none, 1 = inverse frequency in the training rows, between = that power of it
    train.class_weights_max = 20.0  # largest weight
    train.monitor = "loss"  # chooses the epoch: 'loss', 'roc_auc' (action units); 'accuracy', 'uf1' (one class)
    train.patience = 0  # epochs without a better monitor before stopping; 0 = never
    train.selection = "best_val"  # whose predictions are the result: 'best_val' or 'last'
    train.normalize = "standardize"  # by training rows' mean, deviation; 'pixel' (each pixel's), 'unit' (0..1), 'symmetric' (-1..1), 'none'
    train.precision = "float32"  # of activations: 'float32' or 'bfloat16'; parameters and sums are always float32
    train.eval_batch = 256  # rows of a forward pass of evaluation and of init.features, over all devices of a trial; memory, not results
    train.ema = 0.0  # decay of a running mean of the weights, which then predicts; 0 = none
    train.tta = "none"  # views whose predictions are averaged: 'none', 'flip', 'flip_crop' (ten); faces only
    train.early_size = 0  # pixels, side that training images are resized to in the first epochs; 0 = never
    train.early_share = 0.5  # of the epochs, in which images are of train.early_size
    train.chunk = 0  # trials at a time; 0 = as many as fit into memory
    train.trial_axis = "auto"  # trials of one device: 'vmap' (all at once), 'map' (one by one), 'auto' ('map' on CPU, else 'vmap')

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adamw"  # 'adam', 'adamw', 'sgd' (Nesterov 0.9), 'lbfgs' (with batch_size=0; an epoch is an iteration)
    optimizer.learning_rate = 1e-3  # at its peak
    optimizer.weight_decay = 0.0  # kernels only
    optimizer.schedule = "constant"  # 'constant', 'cosine', 'linear' (one cycle), 'plateau' (see plateau_patience)
    optimizer.plateau_patience = 5  # epochs without a better monitor before the rate is multiplied by plateau_factor
    optimizer.plateau_factor = 0.5
    optimizer.tolerance = 0.0  # stop once no entry of the gradient is larger; 0 = never
    optimizer.warmup = 0.0  # share of all steps, [0, 1)
    optimizer.clip_norm = 0.0  # global norm of the gradient; 0 = no clipping
    optimizer.freeze = ""  # regex of parameters that are not trained ('conv[1-4]_'); batch norms named by it keep their statistics
    optimizer.rates = ""  # shares of the learning rate, first match: 'conv5_=0.1,conv4_=0.05@0.5' (@: 0 before that share of all steps)

    config.augment = augment = ConfigDict()
    augment.flip = 0.0  # probability of a mirror image (of a flow map: u is negated)
    augment.alternate = False  # mirror each image in every other epoch, in place of augment.flip
    augment.shift = 0  # pixels, largest shift each way
    augment.shift_p = 1.0  # probability of a shift
    augment.crop = 0  # pixels, side of the square kept at a random place, when predicting in the middle (and, by tta, the corners); 0 = all
    augment.vertical_flip = 0.0  # probability of an image upside down
    augment.rotation = 0.0  # degrees, largest angle each way; faces only
    augment.rotation_p = 1.0  # probability of a rotation
    augment.zoom = 0.0  # share: height and width are scaled by 1 - zoom to 1 + zoom
    augment.brightness = 0.0  # share of 255, largest change each way
    augment.contrast = 0.0  # share: contrast is scaled by 1 - contrast to 1 + contrast
    augment.light_p = 1.0  # probability that brightness and contrast change
    augment.erase = 0.0  # probability that a random rectangle is blanked out
    augment.cutout = 0  # pixels, side of the square that is blanked out
    augment.mixup = 0.0  # alpha of the Beta distribution of shares when two images are mixed; 0 = no mixing
    augment.mixup_p = 1.0  # probability that a sample is mixed
    augment.mixup_until = 1.0  # share of the epochs, after which nothing is mixed
    augment.noise = 0.0  # standard deviation, grey levels of 0..255

    config.evaluate = evaluate = ConfigDict()
    evaluate.resamples = 1000  # of the bootstrap over subjects
    evaluate.clips = "sum"  # what frames' posteriors make of a clip: sum, vote, weighted_vote, centred, zscored, product, calibrated
    evaluate.min_train_positives = 5  # action units with fewer are reported, and left out of the headline macro

    config.filter = filter = ConfigDict()  # of filter_frames and iterate_filtering
    filter.stages = ()  # NAME=VALUE of experiments.filtering.FILTERS: 'percentile=35', 'threshold=0.7', 'gaussian=50', 'au45=0.75'…
    filter.embeddings = False  # keep every stage's features of every frame (Deep-Emotion: 810 and 50) in its embeddings.npz
    filter.judge = ""  # a run on other data, of AffectNet's classes or the same, that judges first; '': each fold's own model
    filter.gaussians = ""  # of the gaussian filters: a folder of statistics (docs/data.md), or '': of the fold's training frames
    filter.weights = "restart"  # of iterate_filtering: a stage begins anew ('restart') or with the weights before it ('carry')

    config.log = log = ConfigDict()
    log.checkpoint_seconds = 20.0  # between two checkpoints, times the seconds that one holds training up, if more than 1; 0 = every epoch
    log.profile = False  # trace two seconds of training (or an epoch that is shorter) with jax.profiler, into profile/ (TensorBoard, XProf)
    log.variables = True  # keep the weights of every trial, at the last and the best epoch
    log.tensorboard = True
    log.wandb = ""  # '', 'online', 'offline'

    if variant == "debug":
        data.source, data.synthetic_subjects, data.synthetic_clips, data.min_positives = "synthetic", 6, 24, 2
        train.epochs, evaluate.resamples, evaluate.min_train_positives = 3, 50, 1
    config.lock()
    return config


def describe_fields() -> str:
    """For --help: every field with its default and meaning."""
    lines = ["Fields, with their defaults (a config file may set its own):"]
    sources = inspect.getsource(get_config) + inspect.getsource(section.defaults)
    for part, field, default, meaning in re.findall(r"^    (\w+)\.(\w+) = (.+?)  # (.+)$", sources, re.M):
        name = f"{part.removeprefix('config')}{'.' if part != 'config' else ''}{field}"
        lines.append(f"  --config.{name + '=' + default:<44}  {meaning}")
    return "\n".join(lines)


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks every field against its constraint.

    Raises:
      UserError: with every problem of the config at once.
    """
    extensions.load(config.extensions)
    problems = [
        f"{name}={value!r}: expected {expected}"
        for name, value, expected, right in _constraints(config) if not right
    ]
    if problems:
        raise UserError("the config cannot be used", problems,
                        fix="set them with --config.<field>=<value>; python launch.py --help describes every field")


def _constraints(c: ConfigDict):
    def one_of(name, value, allowed):
        return name, value, "one of " + ", ".join(repr(a) for a in allowed), value in allowed

    def registered(name, value, registry):
        expected = f"one of {', '.join(map(repr, registry))}; {extensions.registered_by(c.extensions)}"
        return name, value, expected, value in registry

    def number(name, value, text, right):
        return name, value, text, right

    from fexpr.data.loaders import LOADERS
    from fexpr.data.splits import duplicates
    from fexpr.data.splits.protocols import PROTOCOLS
    from fexpr.evaluate import clip_rules
    from fexpr.models import MODELS, class_of
    from fexpr.train import optim

    multilabel = c.train.loss != "cross_entropy"
    yield one_of("experiment", c.experiment, EXPERIMENTS)
    if c.experiment not in LABORATORIES:
        yield registered("data.name", c.data.name, LOADERS)
    if c.experiment in (*OF_TRIALS, *STUDIES):
        yield registered("model.name", c.model.name, MODELS)
    elif c.experiment == "svm":
        yield one_of("model.name", c.model.name, ("svm",))
    yield one_of("data.source", c.data.source, ("auto", "release", "synthetic"))
    yield one_of("data.layout", c.data.layout, ("auto", "frames", "flow", "videos"))
    yield one_of("data.align", c.data.align, ("auto", "landmarks", "detect", "none"))
    yield one_of("data.alternatives", c.data.alternatives, ("first", "all", "none"))
    yield one_of("data.references", c.data.references, ("absent", "present"))
    yield one_of("data.uncertain", c.data.uncertain, ("present", "absent"))
    yield one_of("data.regions", c.data.regions, ("whole", "landmarks"))
    yield registered("split.protocol", c.split.protocol, PROTOCOLS)
    yield one_of("train.loss", c.train.loss, ("bce", "focal", "cross_entropy"))
    yield one_of("train.targets", c.train.targets, ("presence", "intensity") if multilabel else ("presence", "soft"))
    yield one_of("train.monitor", c.train.monitor, ("loss", "roc_auc") if multilabel else ("loss", "accuracy", "uf1"))
    unselected = c.split.protocol == "official" and c.split.val == "none"
    yield one_of("train.selection", c.train.selection, ("best_val", "last"))
    yield number("train.selection", c.train.selection, "'last' with split.val='none'", not unselected or c.train.selection == "last")
    yield number("train.patience", c.train.patience, "0 with split.val='none'", not (unselected and c.train.patience))
    yield one_of("train.normalize", c.train.normalize, ("standardize", "pixel", "unit", "symmetric", "none"))
    if c.model.name in MODELS and (needed := getattr(class_of(c.model.name), "NORMALIZE", None)):
        right = c.train.normalize == needed
        yield number("train.normalize", c.train.normalize, f"{needed!r}, as {c.model.name} prepares images itself", right)
    yield number("init.from_run", c.init.from_run, "'' where init.from_file is set", not (c.init.from_run and c.init.from_file))
    if c.init.features:
        plain = all(value == get_config().augment[name] for name, value in c.augment.items())
        yield number("augment", "…", "no augmentation with init.features, which are computed once", plain)
        yield number("train.tta", c.train.tta, "'none' with init.features", c.train.tta == "none")
        yield number("optimizer.freeze", c.optimizer.freeze, "'' with init.features: only the last part is trained", not c.optimizer.freeze)
        own = c.train.normalize in ("none", "unit", "symmetric") or bool(c.init.from_run)
        yield number("train.normalize", c.train.normalize, "'none', 'unit' or 'symmetric' with init.features of a file", own)
    for name, value in (("init.anew", c.init.anew), ("optimizer.freeze", c.optimizer.freeze)):
        yield number(name, value, "a regular expression", _can(re.compile, value))
    yield number("optimizer.rates", c.optimizer.rates, "'' or 'REGEX=SHARE,REGEX=SHARE@START'", _can(optim.parse_rates, c.optimizer.rates))
    yield number("optimizer.rates", c.optimizer.rates, "'' with lbfgs", not (c.optimizer.rates and c.optimizer.name == "lbfgs"))
    yield one_of("train.precision", c.train.precision, ("float32", "bfloat16"))
    yield one_of("train.tta", c.train.tta, ("none",) if multilabel else ("none", "flip", "flip_crop"))
    yield one_of("data.labels", c.data.labels, ("fer2013", "ferplus"))
    yield one_of("data.duplicates", c.data.duplicates, tuple(duplicates.RULES))
    if c.data.duplicates != "keep":
        yield one_of("data.name, with data.duplicates", c.data.name, duplicates.RELEASES)
        text = "False with data.duplicates, as all images are compared"
        yield number("data.streamed", c.data.streamed, text, not c.data.streamed)
        text = "0 with data.duplicates, as validation rows are fixed"
        yield number("split.inner", c.split.inner, text, not c.split.inner)
    yield one_of("data.colours", c.data.colours, ("grey", "rgb"))
    yield one_of("data.classes", c.data.classes, ("8", "7", "polarity"))
    yield one_of("data.map", c.data.map, ("none", "saliency", "spectral", "landmarks"))
    if c.data.streamed:
        yield one_of("data.name, with data.streamed", c.data.name, ("ravdess", "affectnet", "folder"))
        yield number("data.clip_frames", c.data.clip_frames, "0 with data.streamed, as clips are held in memory", not c.data.clip_frames)
    if c.data.clip_frames:
        yield one_of("data.name, with data.clip_frames", c.data.name, ("ravdess",))
        yield number("augment.mixup", c.augment.mixup, "0 with data.clip_frames, as clips may be short", not c.augment.mixup)
    yield one_of("filter.weights", c.filter.weights, ("restart", "carry"))
    yield one_of("evaluate.clips", c.evaluate.clips, tuple(clip_rules.RULES))
    yield one_of("data.features", c.data.features, ("both", "intensities", "presences"))
    yield one_of("data.per_actor", c.data.per_actor, ("none", "center", "standardize"))
    yield one_of("split.val", c.split.val, ("training", "PublicTest", "none"))
    yield one_of("split.test", c.split.test, ("auto", "PublicTest", "PrivateTest", "both"))
    yield one_of("train.trial_axis", c.train.trial_axis, ("auto", "vmap", "map"))
    yield one_of("optimizer.name", c.optimizer.name, ("adam", "adamw", "sgd", "lbfgs"))
    yield one_of("optimizer.schedule", c.optimizer.schedule, ("constant", "cosine", "linear", "plateau"))
    yield one_of("log.wandb", c.log.wandb, ("", "online", "offline"))
    for name, value, low in (
        ("seed", c.seed, 0), ("data.image_size", c.data.image_size, 8), ("data.min_positives", c.data.min_positives, 1),
        ("data.synthetic_subjects", c.data.synthetic_subjects, 3), ("data.synthetic_clips", c.data.synthetic_clips, 3),
        ("data.synthetic_frames", c.data.synthetic_frames, 5), ("split.inner", c.split.inner, 0),
        ("data.clip_frames", c.data.clip_frames, 0),
        ("split.seed", c.split.seed, 0), ("split.seeds", c.split.seeds, 1), ("split.folds", c.split.folds, 2),
        ("split.repeats", c.split.repeats, 2), ("train.chunk", c.train.chunk, 0), ("train.epochs", c.train.epochs, 1),
        ("train.batch_size", c.train.batch_size, 0), ("train.eval_batch", c.train.eval_batch, 1), ("init.trial", c.init.trial, 0),
        ("optimizer.plateau_patience", c.optimizer.plateau_patience, 1),
        ("optimizer.tolerance", c.optimizer.tolerance, 0), ("augment.rotation", c.augment.rotation, 0),
        ("augment.cutout", c.augment.cutout, 0), ("augment.mixup", c.augment.mixup, 0),
        ("train.patience", c.train.patience, 0), ("augment.shift", c.augment.shift, 0),
        ("augment.crop", c.augment.crop, 0), ("train.early_size", c.train.early_size, 0), ("evaluate.resamples", c.evaluate.resamples, 10),
        ("evaluate.min_train_positives", c.evaluate.min_train_positives, 1), ("train.class_weights", c.train.class_weights, 0),
        ("train.class_weights_max", c.train.class_weights_max, 1), ("train.focal_gamma", c.train.focal_gamma, 0),
        ("optimizer.weight_decay", c.optimizer.weight_decay, 0), ("optimizer.clip_norm", c.optimizer.clip_norm, 0),
        ("augment.noise", c.augment.noise, 0), ("log.checkpoint_seconds", c.log.checkpoint_seconds, 0),
    ):
        yield number(name, value, f"at least {low}", value >= low)
    yield number("optimizer.learning_rate", c.optimizer.learning_rate, "more than 0", c.optimizer.learning_rate > 0)
    for name, value in (("split.test_fraction", c.split.test_fraction), ("split.val_fraction", c.split.val_fraction)):
        yield number(name, value, "a share of the subjects, between 0 and 1", 0 < value < 1)
    for name, value in (("optimizer.warmup", c.optimizer.warmup), ("train.label_smoothing", c.train.label_smoothing),
                        ("train.ema", c.train.ema), ("augment.zoom", c.augment.zoom), ("augment.contrast", c.augment.contrast),
                        ("augment.brightness", c.augment.brightness), ("optimizer.plateau_factor", c.optimizer.plateau_factor)):
        yield number(name, value, "at least 0 and less than 1", 0 <= value < 1)
    for name in ("flip", "vertical_flip", "rotation_p", "shift_p", "light_p", "erase", "mixup_p", "mixup_until"):
        yield number(f"augment.{name}", c.augment[name], "a probability, 0 to 1", 0 <= c.augment[name] <= 1)
    yield number("split.train_share", c.split.train_share, "more than 0, at most 1", 0 < c.split.train_share <= 1)
    side = c.data.image_size
    yield number("augment.flip", c.augment.flip, "0 with augment.alternate", not (c.augment.flip and c.augment.alternate))
    yield number("train.early_share", c.train.early_share, "a share of the epochs, 0 to 1", 0 <= c.train.early_share <= 1)
    yield number("train.early_size", c.train.early_size, "0 with data.streamed", not (c.train.early_size and c.data.streamed))
    seen = c.augment.crop or side
    yield number("train.early_size", c.train.early_size, f"less than the {seen} pixels that the network sees", c.train.early_size < seen)
    for name in ("shift", "cutout", "crop"):
        yield number(f"augment.{name}", c.augment[name], f"less than data.image_size ({side})", c.augment[name] < side)
    alone = c.optimizer.name != "lbfgs" or c.train.batch_size == 0
    yield number("train.batch_size", c.train.batch_size, "0 (all rows) with optimizer.name='lbfgs'", alone)


def _can(function, value) -> bool:
    """Whether a text is of the form that a function takes."""
    try:
        function(value)
    except (ValueError, re.error):
        return False
    return True
