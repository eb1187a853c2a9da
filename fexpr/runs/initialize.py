"""What a run starts from: another run's network or a file of weights, as a whole or as a frozen
trunk whose features are computed once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree
from ml_collections import ConfigDict

from fexpr import models
from fexpr.arrays import AnyArray
from fexpr.data.dataset import Dataset
from fexpr.data.preparation.prepare import data_root
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.models.auxiliary import AuxiliaryOutputs
from fexpr.models.backbone import Head, split_backbone_and_head
from fexpr.models.weights import files, fitting, layouts
from fexpr.recognizer import Recognizer, archive
from fexpr.runs import features, load_data, people, schema
from fexpr.storage import bounded, contents, run
from fexpr.storage.cache import expand_home
from fexpr.storage.seen_people import Seen, from_metadata
from fexpr.terminal import say
from fexpr.train import optim
from fexpr.train.image_statistics import statistics
from fexpr.train.train_config import AUXILIARY
from fexpr.train.views import normalized, recentred

WEIGHTS = "weights"  # folder of the data root that holds files of weights
PUBLISHED = {
    f"rcmalli_vggface_tf_{top}{name}.h5" for top in ("", "notop_") for name in ("vgg16", "resnet50")
}
RELEASE = "https://github.com/rcmalli/keras-vggface/releases/download/v2.0/"


@dataclasses.dataclass(frozen=True)
class Initialization:
    """What the trials of a program start from.

    Attributes:
      variables: of the model, or a part of them; NumPy.
      facts: for config.json.
      seen: the people in the training of the variables; None if they are random. end, features,
          trunk: if the trunk is frozen, the part that is trained, its input (float32 [N, 1, 1, D]),
              and the rest of the variables, with the images' normalisation (`input`).
    """

    variables: dict[str, PyTree]
    facts: dict[str, Any]
    seen: Seen | None = None
    end: Head | None = None
    features: np.ndarray | None = None
    trunk: dict[str, PyTree] | None = None

    def whole(self, variables: PyTree, trials: int) -> PyTree:
        """The variables [T, ...] of the whole network, from those that were trained."""
        if self.trunk is None:
            return variables
        return optim.merge_params(
            variables,
            jax.tree.map(lambda x: np.broadcast_to(x, (trials, *np.shape(x))), self.trunk),
        )


def load_initialization(
    config: ConfigDict, dataset: Dataset, folds: Sequence[Fold], dry_run: bool = False
) -> Initialization | None:
    """Reads what `config.init` names, and prints it; None if it names nothing. A dry run computes
    no features.

    Raises:
      UserError: a file or run that is missing, cannot be read or does not fit; a run whose training
          includes people who are tested here, or for which this cannot be checked; settings that
          contradict each other.
    """
    c = config.init
    if not (c.from_run or c.from_file or c.features):
        return None
    image = jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), jnp.float32)
    model = models.build_to_predict(
        config.model.to_dict(), len(dataset.class_names), AUXILIARY[config.train.auxiliary]
    )
    like = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)
    if c.from_run:
        variables, facts, scaling, seen = _from_run(config, model, like, dataset, folds)
    else:
        variables, facts, scaling, seen = _from_file(config, model, like, dataset, folds)
    if not c.features:
        return Initialization(variables, facts, seen)
    trunk_of, end = split_backbone_and_head(model, image)
    if not variables:
        say(
            "start      the trunk has random weights: its features only serve to try out the "
            "program"
        )
    random = model.init(jax.random.key(config.seed), jnp.zeros(image.shape), train=False)
    whole = jax.tree.map(np.asarray, optim.merge_params(random, variables))
    trunk, _ = _sides(whole, end.name)
    _, given = _sides(variables, end.name)
    mean, std = scaling or statistics(dataset.images, np.arange(1), config.train.normalize)
    trunk["input"] = {"mean": mean, "std": std}
    found = features.compute(
        partial(_look, trunk_of, config.train.precision, config.train.normalize, mean, std),
        model,
        end.name,
        trunk,
        whole,
        dataset,
        config.train.precision,
        config.train.eval_batch,
        dry_run,
    )
    return Initialization(
        given, facts | {"features": found.shape[-1]}, seen, end, found[:, None, None], trunk
    )


def _sides(variables: PyTree, end: str) -> tuple[PyTree, PyTree]:
    """The variables without the head's, and the head's."""
    sides = [
        {p: a for p, a in flatten_dict(variables).items() if (p[1] == end) is mine}
        for mine in (False, True)
    ]
    return unflatten_dict(sides[0]), unflatten_dict(sides[1])


def _look(
    trunk_of: Callable[[PyTree, AnyArray], jax.Array],
    precision: str,
    normalize: str,
    mean: np.ndarray,
    std: np.ndarray,
    variables: PyTree,
    images: jax.Array,
) -> jax.Array:
    """The head's input float32 [B, D] for images uint8 [B, H, W, C]."""
    seen = normalized(recentred(images.astype(jnp.float32), normalize), mean, std, precision)
    return trunk_of(variables, seen).astype(jnp.float32)


def _from_file(
    config: ConfigDict,
    model: nn.Module | AuxiliaryOutputs,
    like: PyTree,
    dataset: Dataset,
    folds: Sequence[Fold],
) -> tuple:
    """Like `_from_run`, from a file; nothing if no file is named."""
    if not config.init.from_file:
        return {}, {}, None, None
    path = weights_file(config)
    weights = files.read(path)
    variables, report = layouts.load(weights, model, like, config.init.anew)
    say(f"start      {path.name} ({weights.format}): {report.summary()}")
    about: dict[str, object] = {
        "from_file": str(path),
        "sha256": weights.sha256,
        "format": weights.format,
    }
    # known only for our own exports
    if seen := from_metadata(weights.about.get("people", "")):
        others = config.init.people == "others"
        people.refuse_tested(path.name, seen, others, config.data.name, dataset, folds)
        about["people"] = {"seen": len(seen.people), "others": others}
    seen = seen or Seen(np.array([], str), (path.name,))
    return variables, about | _names(report), None, seen


def weights_file(config: ConfigDict) -> Path:
    """The file that `config.init.from_file` names: a path, or a name in the folder `weights` of the
    data root.

    Raises:
      UserError: the file is missing; the message says where to get a published file.
    """
    given = expand_home(config.init.from_file)
    kept = data_root(config.data)[0] / WEIGHTS / given
    for path in (given, kept):
        if bounded.is_file(path):
            return path
    fix = (
        f"put it there, or set config.init.from_file (docs/data.md, 'Weights'); {_without(config)}"
    )
    if given.name in PUBLISHED:
        fix = (
            f"download {RELEASE}{given.name} to {kept} (fexpr downloads nothing by itself; "
            f"docs/data.md, 'Weights'); {_without(config)}"
        )
    raise UserError(
        f"the weights {given.name} are missing",
        [f"looked for {given.absolute()}", f"and for {kept}"],
        fix=fix,
    )


def _without(config: ConfigDict) -> str:
    return f"--config.init.from_file= trains {config.model.name} from random weights"


def _from_run(
    config: ConfigDict,
    model: nn.Module | AuxiliaryOutputs,
    like: PyTree,
    dataset: Dataset,
    folds: Sequence[Fold],
) -> tuple:
    """The run's variables, facts, mean and deviation of its images' normalisation, and the people
    in its training.
    """
    source = config.init.from_run
    with archive.opened(source) as folder:
        found = Recognizer.restore(folder, trial=config.init.trial)
        seen = found.seen
        if seen is None and (folder / run.PREDICTIONS).is_file():  # not of a packed run
            predictions = contents.read_predictions(folder / run.PREDICTIONS)
            their_fold = int(predictions["trial_fold"][config.init.trial])
            seen = _seen_by_data(found.content, their_fold, config.data)
    theirs = found.content["config"]
    # layers that they lack
    own = getattr(models.model_class(config.model.name), "BEGINS_WITH", {}).get(
        theirs["model"]["name"]
    )
    pairs = {
        "model.name": (
            theirs["model"]["name"],
            config.model.name if own is None else theirs["model"]["name"],
        ),
        "train.normalize": (theirs["train"]["normalize"], config.train.normalize),
    }
    problems = [f"{name}: {a!r} there, {b!r} here" for name, (a, b) in pairs.items() if a != b]
    if problems:
        raise UserError(
            f"this run cannot start from {source}",
            problems,
            fix="set these fields as in its config.json",
        )
    arrays = {
        "/".join(path): np.asarray(a)
        for path, a in flatten_dict(dict(found.network.variables)).items()
    }
    variables, report = fitting.fit_arrays(
        arrays, like, layouts.OWN, "|".join(filter(None, (config.init.anew, own)))
    )
    fitting.refuse_problems(
        report,
        f"{source} does not fit this {type(model).__name__}",
        "set config.model as in its config.json; config.init.anew names what to reinitialize on "
        "purpose",
    )
    say(f"start      {source}, trial {config.init.trial}, {found.selection}: {report.summary()}")
    others = config.init.people == "others"
    people.refuse_tested(source, seen, others, config.data.name, dataset, folds)
    about = {
        "from_run": source,
        "people": {"seen": None if seen is None else len(seen.people), "others": others},
        "trial": config.init.trial,
        "selection": found.selection,
        "data": found.content["data"]["source"],
    }
    return (
        variables,
        about | _names(report),
        (np.asarray(found.network.mean), np.asarray(found.network.std)),
        seen or Seen(np.array([], str), (source,)),
    )


def _seen_by_data(content: dict, fold: int, data_config: ConfigDict) -> Seen | None:
    """The people in the training of a fold's trials, for a run that does not record them: derived
    from its data, if they are here and it did not start from another run. None: unknown.
    """
    theirs = schema.upgrade(content["config"])
    if theirs.init.from_run:
        return None
    theirs.data.root = data_config.root  # a finished run may have moved with its data
    try:
        dataset, folds = load_data.load(theirs)
    except UserError:
        return None
    if dataset.source != content["data"]["source"] or fold >= len(folds):
        return None
    rows = np.concatenate([folds[fold].train, folds[fold].val])
    names = np.unique(people.people_of(theirs.data.name, dataset)[rows])
    file = theirs.init.from_file
    return Seen(names, (Path(file).name,) if file else ())


def _names(report: fitting.Report) -> dict:
    return {
        "loaded": len(report.loaded),
        "anew": dict(report.reinitialized),
        "aside": list(report.ignored),
    }
