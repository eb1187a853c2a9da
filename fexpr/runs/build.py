"""Builds the engine of one program: the trials of one or several runs. Runs that differ only in
values (spec.VALUES) share a program.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from fexpr import models
from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.data.splits.validation_groups import validation_turn
from fexpr.errors import UserError
from fexpr.models.arithmetic import count_convolutions
from fexpr.runs.initialize import Initialization
from fexpr.runs.spec import RunSpec
from fexpr.train import devices, optim, trials
from fexpr.train.mesh import make_mesh
from fexpr.train.state import Model, make_recipe
from fexpr.train.streamed_engine import StreamedEngine
from fexpr.train.train_config import AUXILIARY, parse_rates
from fexpr.train.trial_tables import TrialSpec
from fexpr.train.views import input_shape


def build_engine(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    folds: Sequence[Fold],
    start: Initialization | None = None,
    chunk: int | None = None,
) -> trials.Engine:
    """The engine for every fold x repeat of every run; run by run, repeat by repeat, fold by fold.

    Args:
      start: what all trials start from (load_initialization).
      chunk: trials at a time, instead of the config's.

    Raises:
      UserError: unknown model or argument, loss that does not fit the labels, batch that does not
        fit the devices; a layer to freeze that the model lacks.
    """
    c, classes = specs[0].config, len(dataset.class_names)
    if dataset.multilabel != (c.train.loss != "cross_entropy"):
        kind = (
            "one class per row: 'cross_entropy'"
            if not dataset.multilabel
            else "several classes per row: 'bce' or 'focal'"
        )
        raise UserError(
            f"train.loss={c.train.loss!r} does not fit {c.data.name}", fix=f"its labels are {kind}"
        )
    streamed = dataset.streamed and not (start and start.end)
    count = 1 if streamed else len(specs) * len(folds) * c.split.seeds
    mesh = make_mesh(
        count,
        c.train.batch_size,
        _devices_of_one(c, classes, dataset, start) if count == 1 else None,
    )
    recipe = make_recipe(
        c,
        _model(c, classes, mesh, start),
        dataset.kind,
        dataset.multilabel,
        _batch_size(c, folds, mesh),
    )
    if recipe.targets == "soft" and "soft" not in dataset.extras:
        raise UserError(
            f"train.targets='soft', but {c.data.name} has no votes",
            fix="soft labels need data.labels='ferplus'",
        )
    images: trials.Images = dataset.images
    if start and start.end and start.features is not None:
        # images were normalised when the features were computed
        images = start.features
        recipe = dataclasses.replace(
            recipe, train=dataclasses.replace(recipe.train, normalize="none")
        )
    turns = [
        [
            validation_turn(f, dataset.groups, c.split.inner, repeat, [c.split.seed, i])
            for i, f in enumerate(folds)
        ]
        for repeat in range(c.split.seeds)
    ]
    trial_specs = [
        TrialSpec(
            fold.train,
            fold.val,
            fold.test,
            fold=i,
            seed=p.config.seed + repeat,
            learning_rate=p.config.optimizer.learning_rate,
            weight_decay=p.config.optimizer.weight_decay,
            label_smoothing=p.config.train.label_smoothing,
            weight_strength=p.config.train.class_weights,
            weight_maximum=p.config.train.class_weights_max,
        )
        for p in specs
        for repeat, turn in enumerate(turns)
        for i, fold in enumerate(turn)
    ]
    soft = dataset.extras["soft"] if recipe.targets == "soft" else None
    make = StreamedEngine if streamed else trials.Engine
    engine = make(
        recipe,
        images,
        dataset.labels,
        classes,
        trial_specs,
        mesh,
        c.train.trial_axis,
        c.train.chunk if chunk is None else chunk,
        soft,
        start.variables if start else None,
        dataset.extras.get("auxiliary"),
    )
    _check_names(c, engine)
    return engine


def trained_parameters(config: ConfigDict, engine: trials.Engine) -> int:
    """The number of parameters that a trial trains."""
    return models.count_parameters(
        optim.partition_params(engine.abstract_params(), config.optimizer.freeze)[0]
    )


def _check_names(c: ConfigDict, engine: trials.Engine) -> None:
    """Raises a UserError for regexes that match no layer: they are mistakes that would go
    unnoticed.
    """
    patterns = (
        {f"optimizer.freeze={c.optimizer.freeze!r}": c.optimizer.freeze}
        if c.optimizer.freeze
        else {}
    )
    patterns |= {
        f"optimizer.rates, {rate.pattern!r}": rate.pattern
        for rate in parse_rates(c.optimizer.rates)
    }
    paths = flatten_dict(engine.abstract_params(), sep="/")
    problems = [
        f"{field}: matches no parameter"
        for field, pattern in patterns.items()
        if not any(re.search(pattern, p) for p in paths)
    ]
    if c.optimizer.freeze and not problems and not trained_parameters(c, engine):
        problems = [
            f"optimizer.freeze={c.optimizer.freeze!r}: matches every parameter, nothing is left to "
            "train"
        ]
    if problems:
        layers = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        raise UserError(
            "regexes of layers cannot be used",
            problems,
            fix=f"the layers are {', '.join(layers)}",
        )


def _devices_of_one(
    c: ConfigDict, classes: int, dataset: Dataset, start: Initialization | None
) -> list[jax.Device]:  # pyright: ignore[reportInvalidTypeForm]  # compiled, without stubs
    """The devices that share the batches of a program's only trial."""
    if start and start.end:  # with a frozen trunk, only dense layers are trained
        return devices.share_batch(c.train.batch_size, 0)
    model = models.build_to_train(c.model.to_dict(), classes, 1, c.optimizer.freeze)
    shape = input_shape(dataset.images.shape[1:], c.augment.crop)
    return devices.share_batch(c.train.batch_size, count_convolutions(model, shape))


def _model(
    c: ConfigDict, classes: int, mesh: jax.sharding.Mesh, start: Initialization | None
) -> Model:
    """The network that is trained; with a frozen trunk only the head, in which nothing else is
    frozen.
    """
    if start and start.end:
        return start.end
    return models.build_to_train(
        c.model.to_dict(),
        classes,
        mesh.shape["data"],
        c.optimizer.freeze,
        AUXILIARY[c.train.auxiliary],
    )


def _batch_size(c: ConfigDict, folds: Sequence[Fold], mesh: jax.sharding.Mesh) -> int:
    """The config's batch size; 0 means all training rows at once, rounded up to a multiple of the
    devices.
    """
    share = mesh.shape["data"]
    return c.train.batch_size or -(-max(len(f.train) for f in folds) // share) * share
