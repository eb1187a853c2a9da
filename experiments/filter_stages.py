"""A stage of a study of frame filtering, which is a run directory. All folds are trained on the
frames that a filter keeps of their training rows, and reported; then the model of every fold
predicts every frame (`frames.npz`). A finished stage is never trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from ml_collections import ConfigDict

from experiments.filtering import parse
from fexpr.data.dataset import Dataset
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
FRAMES = "frames.npz"  # file of a stage: `ids` [N], `posteriors` float32 [T, N, K] of fold x frame
BATCH = 256
ALL = "all"


def stage(
    config: ConfigDict,
    name: str,
    workdir: Path,
    dataset: Dataset,
    folds: Sequence[Fold],
    initial_variables: PyTree = None,
) -> Float[np.ndarray, "T N K"]:
    """Trains and reports one stage under `workdir`/`name`, and predicts all frames, unless that is
    already done.

    Args:
      initial_variables: variables by trial from which training starts (`weights`), instead of what
          config.init gives.

    Returns:
      Posteriors [T, N, K].
    """
    folder = workdir / name.replace("=", "_")
    own = config.copy_and_resolve_references()
    # the experiment that a stage is reported as
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


def posteriors(folder: Path, dataset: Dataset, trials: int) -> Float[np.ndarray, "T N K"]:
    """The posteriors of each fold's model for every frame, float32 [T, N, K]; saved in `folder`.

    Raises:
      UserError: the weights no longer exist.
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
            probabilities.append(recognizer.probabilities(dataset.images[:]).astype(np.float32))
            advance()
    run.write_arrays(path, {"ids": dataset.ids, "posteriors": np.stack(probabilities)})
    return np.stack(probabilities)


def judge(config: ConfigDict, dataset: Dataset, trials: int) -> Float[np.ndarray, "T N K"] | None:
    """The posteriors of the run `config.filter.judge` for every frame, float32 [T, N, K], the same
    for every fold; None if no run is named. Its classes must be those of the data or AffectNet's;
    in the latter case calm gets neutral's posterior.

    Raises:
      UserError: not a finished run; other classes or images; a run that was trained on these data.
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
            fix="leave filter.judge empty to use each fold's own model",
        )
    probabilities = recognizer.probabilities(dataset.images[:]).astype(np.float32)
    known = recognizer.class_names
    if known in (CLASSES, CLASSES[:7]) and dataset.class_names == EMOTIONS:
        probabilities = probabilities[:, list(RAVDESS_IN_AFFECTNET)]
    elif known != dataset.class_names:
        here = f"{config.data.name} has {', '.join(dataset.class_names)}"
        raise UserError(
            f"{config.filter.judge} distinguishes {', '.join(known)}",
            [here],
            fix="name a run with these classes, or AffectNet's",
        )
    return np.repeat(probabilities[None], trials, axis=0)


def embeddings(folder: Path, dataset: Dataset, trials: int) -> Path:
    """Writes each fold's embeddings of every frame into `folder`: `ids` [N], `flat` float16 [T, N,
    810], `hidden` float16 [T, N, 50].

    They are Deep-Emotion's features before its two dense layers, and between them; the posteriors
    are in frames.npz.

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
                    f"filter.embeddings: {type(network.model).__name__} has no features to save",
                    fix="set it to False",
                )
            parts.append(
                [
                    in_batches(partial(_feature, network, i), dataset.images[:], BATCH)
                    for i in range(2)
                ]
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


def weights(folder: Path, trials: int) -> PyTree:
    """The variables of a finished run by trial, from which another starts; a run of one trial gives
    the same to every trial.
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
            fix="name a run with these folds",
        )
    return jax.tree.map(lambda x: np.repeat(x, trials, axis=0) if found == 1 else x, saved)


def check(config: ConfigDict, dataset: Dataset, folds: Sequence[Fold]) -> None:
    """Raises a UserError if the data have no frames, or a fold has several models."""
    problems = [] if "video" in dataset.extras else [f"{config.data.name} has no frames of clips"]
    problems += (
        [f"split.seeds={config.split.seeds}: expected 1, as one model per fold predicts its frames"]
        if config.split.seeds != 1
        else []
    )
    problems += (
        [] if len(folds) > 1 else [f"split.protocol={config.split.protocol!r} makes one fold"]
    )
    problems += (
        []
        if config.log.variables
        else ["log.variables=False: expected True, as models must be saved to predict frames"]
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
