"""Looks inside a trained network: which pixels a class depends on, and what every convolution
answers to an image.

python -m experiments.explain runs/cnn_simple_fer2013 --image Training_7 --class happy

A finished run of fit or cross_validate goes in, its data are read again, a page of figures comes
out.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from fexpr import extensions, terminal
from fexpr.data.dataset import Dataset
from fexpr.data.loaders import LOADERS
from fexpr.errors import UserError
from fexpr.evaluate.report import explanation_page
from fexpr.models import layers
from fexpr.recognizer import Network, Recognizer, in_batches
from fexpr.runs import load_data
from fexpr.storage import contents, mirror, run
from fexpr.storage.addresses import path_or_url
from fexpr.train import devices

PATCH, STRIDE = 8, 4  # pixels, of the patch that hides a part of the image
# of SmoothGrad: noisy images, and their noise's deviation as a share of the image's range
COPIES, NOISE = 24, 0.15

NOTES = (
    "Gradient: the size of the derivative of the class's logit by each pixel's grey level, "
    "the largest over the channels (Simonyan et al. "
    f"2014). SmoothGrad: its mean over {COPIES} copies with normal noise of {NOISE:.0%} of "
    "the image's range (Smilkov et al. 2017). "
    f"Occlusion: a patch of {PATCH} × {PATCH} pixels with the training rows' mean slides over "
    f"the image, {STRIDE} pixels at a time (Zeiler "
    "and Fergus 2014); a pixel shows the mean fall of the class's probability over the "
    "patches that hide it. Gradients say what a small "
    "change would do, occlusion what is lost without a part; neither says that the network "
    "looks at a face as people do.",
    "Convolutions: what comes out of them, before normalisation and activation.",
)


class ExplainTarget(NamedTuple):
    """An image to be explained: its row, the class, and why it was chosen."""

    row: int
    class_id: int
    why: str


def gradients(network: Network, image: np.ndarray, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """How much the logit of a class changes with each pixel of an image [H, W, C] in 0..255.

    Returns:
      float32 [H, W] each, the largest over channels: |d logit / d grey level| (Simonyan et al.
      2014, arXiv 1312.6034, section 3), and its mean over COPIES noisy images (SmoothGrad: Smilkov
      et al. 2017, arXiv 1706.03825), noise drawn from a fixed seed.
    """
    image = image.astype(np.float32)
    noise = (
        np.random.default_rng(0)
        .normal(0, NOISE * np.ptp(image), (COPIES, *image.shape))
        .astype(np.float32)
    )
    maps = np.asarray(_slopes(network, np.concatenate([image[None], image + noise]), class_id))
    return maps[0], maps[1:].mean(axis=0)


@jax.jit
def _slopes(network: Network, images: jax.Array, class_id: jax.Array) -> jax.Array:
    # no image's logit depends on another image
    slopes = jax.grad(lambda x: network(x)[:, class_id].sum())(images)
    return jnp.abs(slopes).max(axis=-1)


def occlusion(recognizer: Recognizer, image: np.ndarray, class_id: int) -> np.ndarray:
    """How far the probability of a class falls where a patch hides an image uint8 [H, W, C] (Zeiler
    and Fergus 2014, arXiv 1311.2901).

    The patch is filled with the training rows' mean, that is with zeros after normalisation. Of all
    the run's views (test-time augmentation).

    Returns:
      float32 [H, W], for each pixel the mean over the patches that hide it; below zero where the
      probability rises.
    """
    high, wide = image.shape[:2]
    beside = (high, wide)  # a patch there hides nothing
    corners = np.array([beside, *((y, x) for y in _starts(high) for x in _starts(wide))], np.int32)
    whole, *hidden = recognizer.scores(
        in_batches(partial(_logits_without, recognizer.network, image), corners)
    )[:, class_id]
    total, count = np.zeros((2, high, wide), np.float32)
    for (y, x), value in zip(corners[1:], whole - np.array(hidden), strict=True):
        total[y : y + PATCH, x : x + PATCH] += value
        count[y : y + PATCH, x : x + PATCH] += 1
    return total / count


def _starts(side: int) -> list[int]:
    """Where patches start along a side: the last one ends with it."""
    last = max(side - PATCH, 0)
    return sorted({*range(0, last, STRIDE), last})


@jax.jit
def _logits_without(network: Network, image: jax.Array, corners: jax.Array) -> jax.Array:
    def hide(corner):
        y, x = (
            jnp.arange(side, dtype=jnp.int32) - start
            for side, start in zip(image.shape, corner, strict=False)
        )
        within = ((y >= 0) & (y < PATCH))[:, None] & ((x >= 0) & (x < PATCH))[None]
        return jnp.where(
            within[..., None],
            jnp.broadcast_to(network.mean, image.shape),
            image.astype(jnp.float32),
        )

    return network.predict(jax.vmap(hide)(corners))


def layer_names(network: Network, shape: tuple[int, ...]) -> list[str]:
    """The convolutions of a network, in the order in which an image [H, W, C] of this shape passes
    them; 'outer/inner' where nested.
    """
    names = []
    jax.eval_shape(
        lambda images: names.extend(_captured(network, images)),
        jax.ShapeDtypeStruct((1, *shape), jnp.float32),
    )
    return names


def feature_maps(
    network: Network, image: np.ndarray, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The outputs float32 [h, w, D] of the named convolutions for an image [H, W, C] in 0..255,
    before norm and activation.
    """
    return {
        name: np.asarray(output[0])
        for name, output in zip(names, _outputs(network, image[None], tuple(names)), strict=True)
    }


@partial(jax.jit, static_argnums=2)
def _outputs(network: Network, images: jax.Array, names: tuple[str, ...]) -> list[jax.Array]:
    captured = _captured(network, images.astype(jnp.float32))
    return [captured[name].astype(jnp.float32) for name in names]


def _captured(network: Network, images: jax.Array) -> dict[str, jax.Array]:
    def wanted(module, method):
        return isinstance(module, (layers.Conv, nn.Conv)) and method == "__call__"

    _, state = network.model.apply(
        network.variables,
        network.normalized(images),
        train=False,
        capture_intermediates=wanted,
        mutable=["intermediates"],
    )
    return {
        "/".join(path[:-1]): outputs[0]
        for path, outputs in flatten_dict(state.get("intermediates", {})).items()
    }


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=terminal.program("experiments.explain"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Looks inside the network of a finished run: input gradients, SmoothGrad and "
        "occlusion of a class, and the feature\n"
        "maps of the convolutions, laid over images of the run's data. Writes PNG files and "
        "the page inside.html.",
        epilog="examples:\n  python -m experiments.explain runs/cnn_simple_fer2013\n"
        "  python -m experiments.explain runs/cnn_simple_fer2013 --image Training_7 --image "
        "PublicTest_28710 --class happy\n"
        "  python -m experiments.explain runs/htnet_samm --class AU12",
    )
    p.add_argument(
        "run_dir",
        type=path_or_url,
        help="run directory of a finished run of fit or cross_validate, or its address",
    )
    p.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="ID",
        help="id of a row of the data, may be given several times; "
        "default: of the test rows the one that the network was surest of and right, and the "
        "one where it was wrong",
    )
    p.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="class whose score is explained; default: the one that the network "
        "decides on; action units must be named",
    )
    p.add_argument(
        "--layer", metavar="NAME", help="only this convolution's feature maps; default: every one's"
    )
    p.add_argument(
        "--trial",
        type=int,
        default=0,
        metavar="N",
        help="of a cross-validation: which fold and seed, as in predictions.npz",
    )
    p.add_argument(
        "--root",
        metavar="DIR",
        help="folder that holds the releases (of your own images: config.data.path), if it is "
        "no longer there",
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write; default: the folder inside of the run directory",
    )
    return p


def explain(args: argparse.Namespace, command: str) -> Path:
    """Does what the command line says; returns the page.

    Raises:
      UserError: run, data, image, class or layer are not there, or the folder cannot be written to.
    """
    recognizer = Recognizer.restore(args.run_dir, trial=args.trial)
    content, found = (
        contents.read_config(args.run_dir / run.CONFIG, contents.TRAINED),
        contents.read_predictions(args.run_dir / run.PREDICTIONS),
    )
    dataset = load(args.run_dir, content, args.root)
    names = layer_names(recognizer.network, recognizer.shape)
    check(args, recognizer, dataset, names)
    class_id = recognizer.class_names.index(args.class_name) if args.class_name else None
    chosen = (
        given(recognizer, dataset, args.image, class_id)
        if args.image
        else surest(recognizer, dataset, found, class_id)
    )
    names = [args.layer] if args.layer else names
    explained = []
    with terminal.progress("explaining", len(chosen)) as advance:
        for choice in chosen:
            explained.append(look(recognizer, dataset, found, choice, names))
            advance()
    model, source = content["model"]["name"], content["data"]["source"]
    facts = [
        ("run", mirror.display_path(args.run_dir)),
        ("source", source),
        ("model", model),
        ("weights", recognizer.selection.replace("_", " ")),
    ]
    if recognizer.trials > 1:
        fold, seed = (
            found["fold_names"][found["trial_fold"][args.trial]],
            found["trial_seed"][args.trial],
        )
        facts.append(
            ("trial", f"{args.trial} (of 0 to {recognizer.trials - 1}): fold {fold}, seed {seed}")
        )
    notes = [
        NOTES[0],
        *(NOTES[1:] if names else [f"{model} has no convolution, hence no feature maps."]),
    ]
    if recognizer.network.tta != "none":
        notes.append(
            "The run averages several views of an image: probabilities and occlusion do so "
            "here, gradients and convolutions are "
            "those of the image as it is."
        )
    folder = args.out or args.run_dir / explanation_page.FOLDER
    return explanation_page.write_inside(
        folder, explained, f"Inside {model}", command, facts, notes, dataset.synthetic
    )


def explain_there(args: argparse.Namespace, command: str) -> str:
    """The same, wherever the run lies; the page's path or address."""
    with mirror.opened(args.run_dir) as folder:
        return mirror.display_path(
            explain(argparse.Namespace(**{**vars(args), "run_dir": folder}), command)
        )


def load(run_dir: Path, content: dict, root: str | None = None) -> Dataset:
    """The data that the run was made from.

    Raises:
      UserError: they are not there any more, or are others now.
    """
    missing = extensions.load_recorded(content["config"].get("extensions", ()), run_dir)
    if content["config"]["data"]["name"] not in LOADERS:
        extensions.refuse_missing(
            missing, f"the data set {content['config']['data']['name']} of {run_dir}"
        )
    config, source = ConfigDict(content["config"]["data"]), content["data"]["source"]
    config.root = root or config.root
    if root and config.get("path"):
        config.path = root
    try:
        dataset = load_data.data(config)
    except UserError as e:
        raise UserError(
            f"the data of {run_dir} cannot be read: {e.title}",
            e.problems,
            fix=f"--root=DIR says where the releases lie now; {e.fix}" if e.fix else "",
        ) from e
    if dataset.source != source:
        raise UserError(
            f"the data are not those of {run_dir}",
            [f"the run was made from {source}, found {dataset.source}"],
            fix="--root=DIR says where the releases lie now",
        )
    return dataset


def check(
    args: argparse.Namespace, recognizer: Recognizer, dataset: Dataset, names: Sequence[str]
) -> None:
    """Raises one UserError with everything named on the command line that is not there."""

    def near(name, known):
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        return (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"there are {', '.join(known[:10])}{' …' * (len(known) > 10)}"
        )

    ids, classes = dataset.ids.tolist(), recognizer.class_names
    known = set(ids)
    problems = (
        ["it decides whole clips: the figure `attention` of its report says by which frames"]
        if dataset.kind == "clip"
        else []
    )
    problems += [
        f"--image {id_}: the data have no such row; {near(id_, ids)}"
        for id_ in args.image
        if id_ not in known
    ]
    if args.class_name and args.class_name not in classes:
        problems.append(
            f"--class {args.class_name}: there is no such class; {near(args.class_name, classes)}"
        )
    if not args.class_name and recognizer.multilabel:
        problems.append(
            f"--class: missing; of action units one must be named: {', '.join(classes)}"
        )
    if args.layer and args.layer not in names:
        problems.append(
            f"--layer {args.layer}: "
            + (
                f"there is no such convolution; {near(args.layer, names)}"
                if names
                else "the network has no convolution"
            )
        )
    if problems:
        raise UserError(f"this cannot be explained of {args.run_dir}", problems)


def given(
    recognizer: Recognizer, dataset: Dataset, ids: Sequence[str], class_id: int | None
) -> list[ExplainTarget]:
    """The rows of these ids, with the class that the network decides on where none is given."""
    rows, why = (
        [dataset.ids.tolist().index(id_) for id_ in dict.fromkeys(ids)],
        "named on the command line",
    )
    decided = recognizer.logits(dataset.images[rows]).argmax(axis=1)
    return [
        ExplainTarget(row, int(k) if class_id is None else class_id, why)
        for row, k in zip(rows, decided, strict=True)
    ]


def surest(
    recognizer: Recognizer, dataset: Dataset, found: dict[str, np.ndarray], class_id: int | None
) -> list[ExplainTarget]:
    """The test row of the trial that the network was surest of and right, and the one where it was
    wrong.

    With a class: of the rows where it is there the one that was given the highest probability of
    it, and of those where it is not.
    """
    test = np.flatnonzero(
        (found["trial"] == recognizer.trial)
        & (found["selection"] == recognizer.selection)
        & (found["split"] == "test")
    )
    scores, labels = recognizer.scores(found["logits"][test]), found["labels"][test]
    classes = scores.argmax(axis=1) if class_id is None else np.full(len(test), class_id)
    correct = (
        labels[np.arange(len(test)), classes] > 0 if recognizer.multilabel else labels == classes
    )
    confidence, place = scores[np.arange(len(test)), classes], dataset.ids.tolist()
    if class_id is None:
        words = "surest of the right test rows", "surest of the wrong test rows"
    else:
        name = recognizer.class_names[class_id]
        words = (
            f"highest probability of {name} in test rows that show it",
            f"highest probability of {name} in test rows that do not",
        )
    chosen = []
    for side, why in zip((True, False), words, strict=True):
        rows = np.flatnonzero(correct == side)
        if len(rows):
            best = rows[confidence[rows].argmax()]
            chosen.append(
                ExplainTarget(place.index(found["ids"][test[best]]), int(classes[best]), why)
            )
    return chosen


def look(
    recognizer: Recognizer,
    dataset: Dataset,
    found: dict[str, np.ndarray],
    choice: ExplainTarget,
    names: Sequence[str],
) -> explanation_page.Explained:
    """All maps of one image."""
    image, id_, name = (
        dataset.images[choice.row],
        str(dataset.ids[choice.row]),
        recognizer.class_names[choice.class_id],
    )
    scores, label = recognizer.probabilities(image[None])[0], dataset.labels[choice.row]
    sides = found["split"][(found["ids"] == id_) & (found["trial"] == recognizer.trial)]
    part = {"test": "test", "val": "validation"}[sides[0]] if len(sides) else "training, or none"
    facts = [("chosen as", choice.why), ("part of the split", part)]
    if recognizer.multilabel:
        facts.append(
            (
                "true",
                " + ".join(
                    n for n, present in zip(dataset.class_names, label > 0, strict=True) if present
                )
                or "none",
            )
        )
    else:
        facts += [
            ("true", dataset.class_names[label]),
            ("decided", dataset.class_names[scores.argmax()]),
        ]
    facts.append((f"probability of {name}", f"{scores[choice.class_id]:.3f}"))
    slope, smooth = gradients(recognizer.network, image, choice.class_id)
    return explanation_page.Explained(
        id_,
        image,
        dataset.kind,
        facts,
        name,
        slope,
        smooth,
        occlusion(recognizer, image, choice.class_id),
        feature_maps(recognizer.network, image, names),
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    arguments = shlex.join(sys.argv[1:] if argv is None else argv)
    command = f"{terminal.program('experiments.explain')} {arguments}"
    return terminal.exit_code(lambda: terminal.say(f"page       {explain_there(args, command)}"))


if __name__ == "__main__":
    terminal.quiet()
    devices.keep_compiled()
    sys.exit(main())
