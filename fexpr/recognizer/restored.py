"""Reads what a recogniser needs from a finished run directory: its description, and the weights
of one trial or of all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from fexpr import extensions, models
from fexpr.errors import UserError
from fexpr.probabilities import Applied
from fexpr.recognizer import calibrated, packed_run
from fexpr.recognizer.network import Network
from fexpr.storage import bounded, run, seen_people, zoo
from fexpr.storage import contents as stored
from fexpr.storage.seen_people import Seen
from fexpr.train import devices
from fexpr.train.state import Model
from fexpr.train.train_config import AUXILIARY
from fexpr.train.views import input_shape

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Float

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Restored:
    """The result of `read`; `content` and `metrics` are config.json and metrics.json, `seen` the
    people in the members' training, if they are recorded.
    """

    content: dict
    metrics: dict
    selection: str
    networks: tuple[Network, ...]
    members: tuple[int, ...]
    trials: int
    seen: Seen | None


def read(run_dir: Path, selection: str | None, trial: int | None) -> Restored:
    """The networks of a finished run, on the default device; arguments and errors as in
    `Recognizer.restore`.
    """
    devices.check()
    content, metrics = contents(run_dir)
    config = content["config"]
    selection = selection or config["train"]["selection"]
    saved = load_variables(run_dir, selection)
    trials = len(saved["input"]["mean"])
    failed = [failure["trial"] for failure in metrics["trials"]["failed"]]
    if trial is not None:
        _check_trial(run_dir, trial, trials, failed)
    members = tuple(t for t in range(trials) if t not in failed) if trial is None else (trial,)
    if not members:
        raise UserError(
            f"every trial of {run_dir} failed: its loss was not finite",
            fix="train again with a lower learning rate",
        )
    # runs of older versions lack the field
    missing = extensions.load_recorded(config.get("extensions", ()), run_dir)
    if config["model"]["name"] not in models.MODELS:
        extensions.refuse_missing(missing, f"the model {config['model']['name']} of {run_dir}")
    scaling = saved.pop("input")
    crop = config["augment"].get("crop", 0)  # runs of older versions lack the field
    try:
        model = models.build_to_predict(
            config["model"],
            len(content["data"]["classes"]),
            AUXILIARY[config["train"].get("auxiliary", "none")],  # runs of older versions lack it
        )
        shape = input_shape(content["data"]["image"], crop)
        made = _made(model, shape)
    except UserError:
        raise
    except Exception as e:  # impossible arguments may raise any error
        raise run.damaged(
            run_dir / run.CONFIG,
            f"config.model does not describe a model: {str(e).splitlines()[:1]}",
        ) from e
    _check_fit(run_dir, shape, made, jax.tree.map(lambda x: x[0], saved))
    networks = []
    for t in members:
        mine = jax.tree.map(lambda x, t=t: x[t], (saved, scaling["mean"], scaling["std"]))
        networks.append(
            Network(
                model,
                config["train"]["precision"],
                config["train"]["tta"],
                *jax.device_put(mine),
                crop=crop,
                kind=content["data"]["kind"],
                normalize=config["train"]["normalize"],
            )
        )
    seen = seen_people.read(run_dir, members)
    return Restored(content, metrics, selection, tuple(networks), members, trials, seen)


def maps(found: Restored) -> tuple[Applied, ...] | None:
    """The map of each member; see calibrated.maps."""
    return _of_metrics(found, calibrated.maps)


def set_limits(found: Restored, coverage: float | None) -> calibrated.SetLimits | None:
    """The limits of the members' prediction sets; see calibrated.set_limits.

    Raises:
      UserError: a coverage is requested, but the run has no sets, neither of rows nor of clips, or
        none for it.
    """
    limits = _of_metrics(found, calibrated.set_limits)
    if coverage is None:
        return limits
    known = limits or _of_metrics(found, partial(calibrated.set_limits, of_clips=True))
    if known is None:
        raise UserError(
            f"coverage={coverage}: the run has no prediction sets for {found.selection!r}",
            ["they need validation rows, and a metrics.json for this epoch"],
            fix="leave the coverage out, or write the report again with the run's own command",
        )
    known.at(coverage)
    return limits


def thresholds(found: Restored) -> Float[np.ndarray, " K"] | None:
    """The threshold of each action unit [K], from validation rows; see calibrated.thresholds. None
    as in maps.
    """

    def read(metrics: dict, selection: str, members: Sequence[int]) -> np.ndarray | None:
        chosen = metrics["thresholds"] if metrics["selection"] == selection else None
        if not chosen:
            return None
        per_trial = np.array([chosen["per_trial"][t] for t in members], np.float64)
        return calibrated.thresholds(per_trial, calibrated.maps(metrics, selection, members))

    return _of_metrics(found, read)


def _of_metrics(found: Restored, read: Callable[[dict, str, Sequence[int]], T]) -> T:
    """The values that `read` takes from metrics.json, which may have been edited."""
    with stored.as_user_error("its maps, sets or thresholds cannot be used"):
        return read(found.metrics, found.selection, found.members)


def contents(run_dir: Path) -> tuple[dict, dict]:
    """Reads config.json and metrics.json of a finished run, or a packed one.

    Raises:
      UserError: it is not one, or has a format that this fexpr does not read.
    """
    missing = [
        f"{name}: missing"
        for name in (run.CONFIG, run.PREDICTIONS, run.METRICS)
        if not (name == run.PREDICTIONS and packed_run.is_packed(run_dir))
        if not bounded.is_file(run_dir / name)
    ]
    if missing:
        exists = bounded.is_folder(run_dir)
        raise UserError(
            f"{run_dir} {'contains no finished run' if exists else 'does not exist'}",
            missing if exists else (),
            fix=f"{run_dir.name} is an installed model, Recognizer.pretrained({run_dir.name!r}); "
            "this needs the directory of a run"
            if run_dir.name in zoo.names()
            else "name a run directory (an unfinished run is finished by its own launch command), "
            f"or an installed model: {', '.join(zoo.names())}",
        )
    content = stored.read_config(run_dir / run.CONFIG)
    if content["format"] not in run.READABLE:
        raise UserError(
            f"{run_dir}: run directory of format {content['format']}, this fexpr reads "
            f"{', '.join(map(str, run.READABLE))}",
            fix="use the fexpr that wrote it "
            f"({content.get('versions', {}).get('fexpr', 'unknown')}), or a newer one",
        )
    content = stored.read_config(run_dir / run.CONFIG, stored.TRAINED)
    return content, stored.read_metrics(run_dir / run.METRICS)


def load_variables(run_dir: Path, selection: str) -> dict:
    """The variables of a selection, for all trials, and their images' normalisation ('input').

    Raises:
      UserError: the run has no weights, none of that selection, or those of an old format.
    """
    if packed_run.is_packed(run_dir):
        saved = packed_run.load_variables(run_dir, selection)
    else:
        saved = _load_checkpoint(run_dir, selection)
    if not isinstance(saved, dict) or not {"mean", "std"} <= {*(saved.get("input") or ())}:
        raise UserError(
            f"{run_dir} ({selection}) does not record how images are normalised",
            [
                "it was written by an fexpr that did not yet save the training rows' mean and "
                "deviation with the weights"
            ],
            fix="train again into a new --workdir",
        )
    return saved


def _load_checkpoint(run_dir: Path, selection: str) -> dict:
    from fexpr.train import checkpoint  # Orbax, which takes a third of a second

    folder = run_dir / run.CHECKPOINTS
    known = (
        sorted(p.name for p in bounded.folders_among(folder.iterdir()) if p.name != run.RESUME)
        if bounded.is_folder(folder)
        else []
    )
    if not known:
        raise UserError(
            f"{run_dir} has no weights",
            ["expected checkpoints/last and checkpoints/best_val, found neither"],
            fix="train a network with --config.log.variables=True (an SVM has none), and copy run "
            "directories as a whole",
        )
    if selection not in known:
        raise UserError(
            f"{run_dir} has no weights of selection {selection!r}",
            fix=f"choose one of {', '.join(known)}",
        )
    return checkpoint.load_variables(run_dir, selection)


def _check_trial(run_dir: Path, trial: int, trials: int, failed: list[int]) -> None:
    if not 0 <= trial < trials:
        raise UserError(
            f"{run_dir} has no trial {trial}",
            fix=f"choose one of 0 to {trials - 1}" if trials > 1 else "its only trial is 0",
        )
    if trial in failed:
        raise UserError(
            f"trial {trial} of {run_dir} failed: its loss was not finite",
            fix="choose another trial",
        )


def _made(model: Model, shape: tuple[int, int, int]) -> dict:
    """Shapes and types of the model's variables."""
    return jax.eval_shape(
        partial(model.init, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, *shape), jnp.float32),
    )


def _check_fit(run_dir: Path, shape: tuple[int, int, int], made: dict, variables: dict) -> None:
    """Raises one UserError with every array that the model of this fexpr lacks, adds, or has in
    another shape.
    """
    wanted, found = (
        {name: x.shape for name, x in flatten_dict(tree, sep="/").items()}
        for tree in (made, variables)
    )
    problems = [
        f"{name}: the model has {wanted.get(name, 'none')}, the run {found.get(name, 'none')}"
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    ]
    if problems:
        raise UserError(
            f"the weights of {run_dir} do not fit the model",
            [f"images: {'x'.join(map(str, shape))}", *problems],
            fix="use the version of fexpr in its config.json",
        )
