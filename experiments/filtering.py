"""What the studies of frame filtering share: a filter's name, its masks for training and for test
rows, a stage, posteriors of all frames.

A stage is a run directory: train all folds on the frames that a filter has left of their training
rows, report, and give every fold's model a look at every frame (`frames.npz`). A finished stage is
never trained again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import frame_filters as filters
from fexpr.data.dataset import Dataset
from fexpr.data.releases import au_gaussians
from fexpr.data.releases.affectnet import CLASSES, RAVDESS_IN_AFFECTNET
from fexpr.data.releases.ravdess_names import EMOTIONS
from fexpr.data.splits.fold import Fold
from fexpr.errors import UserError
from fexpr.recognizer import Network, Recognizer, in_batches
from fexpr.runs import people, results
from fexpr.runs.spec import RunSpec
from fexpr.runs.train_run import train
from fexpr.storage import run
from fexpr.terminal import progress, say
from fexpr.train import checkpoint

EMBEDDINGS = "embeddings.npz"
FRAMES = "frames.npz"  # of a stage: `ids` [N], `posteriors` float32 [T, N, K] of fold x frame
BATCH = 256
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Frames:
    """What a filter may look at, of all N frames. `labels` are UNKNOWN but for the fold's own
    training rows.
    """

    posteriors: np.ndarray
    labels: np.ndarray
    video: np.ndarray
    number: np.ndarray
    action_units: np.ndarray | None

    def at(self, rows: np.ndarray) -> Frames:
        units = None if self.action_units is None else self.action_units[rows]
        return Frames(
            self.posteriors[rows], self.labels[rows], self.video[rows], self.number[rows], units
        )


@dataclasses.dataclass(frozen=True)
class Filter:
    """`train(frames, value, gaussians)` and `test(frames, value, gaussians)` -> bool [N]; `test` is
    handed no label.
    """

    train: Callable[..., np.ndarray]
    test: Callable[..., np.ndarray]
    low: float
    high: float
    needs_units: bool = False


def _gaussian(per_video: bool) -> Filter:
    return Filter(
        lambda f, q, g: filters.gaussian(
            filters.mahalanobis(f.action_units, g), f.labels, f.video, q, per_video
        ),
        lambda f, q, g: filters.gaussian_unlabelled(
            filters.mahalanobis(f.action_units, g), f.video, q
        ),
        0,
        100,
        True,
    )


NEUTRAL_AND_CALM = (EMOTIONS.index("neutral"), EMOTIONS.index("calm"))

FILTERS = {
    "threshold": Filter(
        lambda f, t, _: filters.threshold(f.posteriors, f.labels, t),
        lambda f, t, _: filters.threshold_unlabelled(f.posteriors, f.video, t),
        0,
        1,
    ),
    "threshold_balanced": Filter(
        lambda f, t, _: filters.balanced(filters.threshold(f.posteriors, f.labels, t), f.labels),
        lambda f, t, _: filters.threshold_unlabelled(f.posteriors, f.video, t),
        0,
        1,
    ),
    "percentile": Filter(
        lambda f, q, _: filters.percentile(f.posteriors, f.labels, f.video, q),
        lambda f, q, _: filters.percentile_unlabelled(f.posteriors, f.video, q),
        0,
        99,
    ),
    "au45": Filter(
        lambda f, most, _: filters.eyes_open_unlabelled(f.action_units, f.video, most),
        lambda f, most, _: filters.eyes_open_unlabelled(f.action_units, f.video, most),
        0,
        5,
        True,
    ),
    "gaussian": _gaussian(False),
    # one percentile an emotion, as published
    "gaussian_emotion": Filter(
        lambda f, q, g: filters.gaussian_by_emotion(
            filters.mahalanobis(f.action_units, g), f.labels, q, [NEUTRAL_AND_CALM]
        ),
        lambda f, q, g: filters.gaussian_unlabelled(
            filters.mahalanobis(f.action_units, g), f.video, q
        ),
        0,
        100,
        True,
    ),
    "gaussian_video": _gaussian(True),
    "every": Filter(
        lambda f, n, _: filters.every(f.number, int(n)),
        lambda f, n, _: np.ones(len(f.video), bool),
        1,
        30,
    ),
}


def parse(text: str) -> tuple[Filter, float]:
    """'percentile=35' -> the filter and its value.

    Raises:
      UserError: unknown name, or a value out of range.
    """
    name, _, value = text.partition("=")
    fix = f"expected NAME=VALUE with a name of {', '.join(FILTERS)}, as percentile=35"
    if name not in FILTERS:
        raise UserError(f"config.filter.stages: {text!r} is no filter", fix=fix)
    try:
        number = float(value)
    except ValueError as e:
        raise UserError(f"config.filter.stages: {text!r}: {value!r} is no number", fix=fix) from e
    chosen = FILTERS[name]
    if not chosen.low <= number <= chosen.high:
        raise UserError(
            f"config.filter.stages: {text!r}: expected a value from {chosen.low:g} to "
            f"{chosen.high:g}",
            fix=fix,
        )
    return chosen, number


def gaussians(config: ConfigDict, dataset: Dataset) -> filters.Gaussians | None:
    """Those of `config.filter.gaussians`; None where each fold's training frames are to give them.

    Raises:
      UserError: files that cannot be used, or other classes than RAVDESS'.
    """
    if not config.filter.gaussians:
        return None
    if dataset.class_names != EMOTIONS:
        raise UserError(
            f"filter.gaussians are of RAVDESS' emotions, {config.data.name} has "
            f"{', '.join(dataset.class_names)}"
        )
    return filters.Gaussians(*au_gaussians.read(config.filter.gaussians))


def masks(
    text: str,
    dataset: Dataset,
    fold: Fold,
    posteriors: np.ndarray,
    gaussians: filters.Gaussians | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the fold's training rows to keep, bool [train], and which of its test rows have a
    say, bool [test].

    Labels of validation and test rows are UNKNOWN to whatever decides here. Gaussians, where none
    are given, are fitted to the training rows.

    Args:
      posteriors: float32 [N, K] of every frame, of the model that judges.
    """
    chosen, value = parse(text)
    outside = np.setdiff1d(np.arange(len(dataset)), fold.train)
    labels = filters.hidden(dataset.labels, outside)
    units = dataset.extras.get("action_units")
    if chosen.needs_units and units is None:
        raise UserError(
            f"the filter {text} needs action units of every frame",
            fix="add OpenFace's tables (docs/data.md), or leave it out",
        )
    frames = Frames(posteriors, labels, dataset.extras["video"], dataset.extras["frame"], units)
    if text.startswith("gaussian") and gaussians is None:
        gaussians = filters.fit_gaussians(
            units[fold.train], labels[fold.train], len(dataset.class_names)
        )
    return chosen.train(frames.at(fold.train), value, gaussians), chosen.test(
        frames.at(fold.test), value, gaussians
    )


def filtered(text: str, fold: Fold, mask: np.ndarray, dataset: Dataset) -> Fold:
    """The fold with the training rows that are kept.

    Raises:
      UserError: a class has lost all of them.
    """
    before, after = (
        np.bincount(dataset.labels[rows], minlength=len(dataset.class_names))
        for rows in (fold.train, fold.train[mask])
    )
    lost = [
        name for name, b, a in zip(dataset.class_names, before, after, strict=True) if b and not a
    ]
    if lost:
        raise UserError(
            f"the filter {text} leaves fold {fold.name} no frame of {', '.join(lost)}",
            fix="choose a milder value",
        )
    return Fold(fold.name, fold.train[mask], fold.val, fold.test, dataset.groups)


def stage(
    config: ConfigDict,
    name: str,
    workdir: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    initial_variables: Any = None,
) -> np.ndarray:
    """Trains, reports and judges one stage under `workdir`/`name`, as far as it is not finished.

    Args:
      initial_variables: variables by trial to begin with (`weights`), in the place of what
          config.init gives.

    Returns:
      Posteriors [T, N, K].
    """
    folder = workdir / name.replace("=", "_")
    own = config.copy_and_resolve_references()
    # which is what a stage is, and reported as
    own.experiment, own.filter.stages = "cross_validate", (name,)
    spec = RunSpec(own, folder)
    if not spec.finished or not (folder / run.METRICS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        say(
            f"\nstage      {name}: {sum(len(f.train) for f in folds):,} training frames over "
            f"{len(folds)} folds"
        )
        train([spec], dataset, folds, folder, variables=initial_variables)
        results.report(own, dataset, folder, quiet=True)
    else:
        say(f"\nstage      {name}: finished already")
    if config.filter.embeddings:
        embeddings(folder, dataset, len(folds))
    return posteriors(folder, dataset, len(folds))


def posteriors(folder: Path, dataset: Dataset, trials: int) -> np.ndarray:
    """What each fold's model says of every frame, float32 [T, N, K]; kept in `folder`.

    Raises:
      UserError: the weights are not there any more.
    """
    path = folder / FRAMES
    if path.exists():
        found = run.read_arrays(path)
        if np.array_equal(found["ids"], dataset.ids):
            return found["posteriors"]
    probabilities = []
    with progress("judging frames", trials) as advance:
        for trial in range(trials):
            recognizer = Recognizer.restore(folder, "best_val", trial, BATCH)
            probabilities.append(recognizer.probabilities(dataset.images).astype(np.float32))
            advance()
    run.write_arrays(path, {"ids": dataset.ids, "posteriors": np.stack(probabilities)})
    return np.stack(probabilities)


def judge(config: ConfigDict, dataset: Dataset, trials: int) -> np.ndarray | None:
    """What the run `config.filter.judge` says of every frame, float32 [T, N, K], the same for every
    fold; None where none is named.

    Its classes are the data's own, or AffectNet's: calm then has neutral's posterior.

    Raises:
      UserError: no finished run, other classes, other images; a run that was trained on these data.
    """
    if not config.filter.judge:
        return None
    recognizer = Recognizer.restore(config.filter.judge)
    mine = people.people_of(config.data.name, dataset)
    if recognizer.content["data"]["name"] == config.data.name or (
        recognizer.seen and people.find_seen(recognizer.seen, mine)
    ):
        raise UserError(
            f"{config.filter.judge} was trained on {config.data.name} itself, or on actors of it "
            "that are tested here",
            fix="leave filter.judge empty: each fold's own model judges then",
        )
    probabilities = recognizer.probabilities(dataset.images).astype(np.float32)
    known = recognizer.class_names
    if known in (CLASSES, CLASSES[:7]) and dataset.class_names == EMOTIONS:
        probabilities = probabilities[:, list(RAVDESS_IN_AFFECTNET)]
    elif known != dataset.class_names:
        here = f"{config.data.name} has {', '.join(dataset.class_names)}"
        raise UserError(
            f"{config.filter.judge} tells {', '.join(known)} apart",
            [here],
            fix="name a run of these classes, or AffectNet's",
        )
    return np.repeat(probabilities[None], trials, axis=0)


def embeddings(folder: Path, dataset: Dataset, trials: int) -> Path:
    """Writes each fold's embeddings of every frame into `folder`: `ids` [N], `flat` float16 [T, N,
    810], `hidden` float16 [T, N, 50].

    They are Deep-Emotion's features before its two dense layers, and between them; the posteriors
    stand in frames.npz.

    Raises:
      UserError: a network without such features.
    """
    path = folder / EMBEDDINGS
    if path.exists():
        return path
    parts = []
    with progress("embedding frames", trials) as advance:
        for trial in range(trials):
            network = Recognizer.restore(folder, "best_val", trial, BATCH).network
            if not hasattr(network.model, "features"):
                raise UserError(
                    f"filter.embeddings: {type(network.model).__name__} has no features to keep",
                    fix="set it to False",
                )
            parts.append(
                [in_batches(partial(_feature, network, i), dataset.images, BATCH) for i in range(2)]
            )
            advance()
    run.write_arrays(
        path,
        {"ids": dataset.ids}
        | {name: np.stack([p[i] for p in parts]) for i, name in enumerate(("flat", "hidden"))},
    )
    return path


@partial(jax.jit, static_argnums=1)
def _feature(network: Network, which: int, images: jax.Array) -> jax.Array:
    seen = network.normalized(images.astype(jnp.float32))
    return network.model.apply(network.variables, seen, method="features")[which].astype(
        jnp.float16
    )


def weights(folder: Path, trials: int) -> Any:
    """The variables of a finished run by trial, to begin another with; those of a run of one trial
    for every trial.
    """
    saved = {
        name: tree
        for name, tree in checkpoint.load_variables(folder, "best_val").items()
        if name != "input"
    }
    found = len(jax.tree.leaves(saved)[0])
    if found not in (1, trials):
        raise UserError(
            f"{folder} has weights of {found} trials, this study {trials} folds",
            fix="name a run of these folds",
        )
    return jax.tree.map(lambda x: np.repeat(x, trials, axis=0) if found == 1 else x, saved)


def check(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> None:
    """Raises UserError where the data have no frames, or a fold has several models."""
    problems = [] if "video" in dataset.extras else [f"{config.data.name} has no frames of clips"]
    problems += (
        [f"split.seeds={config.split.seeds}: one model a fold judges its frames, expected 1"]
        if config.split.seeds != 1
        else []
    )
    problems += (
        [] if len(folds) > 1 else [f"split.protocol={config.split.protocol!r} makes one fold"]
    )
    problems += (
        []
        if config.log.variables
        else ["log.variables=False: the models that judge frames must be kept"]
    )
    for text in config.filter.stages:
        try:
            parse(text)
        except UserError as e:
            problems.append(e.title)
    if problems:
        raise UserError(
            "frames cannot be filtered by this config",
            problems,
            fix="see configs/stn_ravdess_filtered.py",
        )
