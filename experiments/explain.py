"""Explains a trained network: which pixels a class depends on, and the outputs of every
convolution.

python -m experiments.explain runs/cnn_simple_fer2013 --image Training_7 --class happy

Reads a finished run of fit or cross_validate and its data, and writes a page of figures.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.explained_rows import ExplainTarget, given, surest
from fexpr import terminal
from fexpr.command_parser import Parser
from fexpr.data.dataset import Dataset
from fexpr.errors import UserError
from fexpr.evaluate.report import explanation_page
from fexpr.recognizer import Recognizer
from fexpr.recognizer.feature_maps import feature_maps, layer_names
from fexpr.recognizer.saliency import COPIES, NOISE, PATCH, STRIDE, gradients, occlusion
from fexpr.runs import load_data
from fexpr.storage import contents, mirror, run
from fexpr.storage.addresses import local_path, path_or_url
from fexpr.train import devices

NOTES = (
    "Gradient: the size of the derivative of the class's logit by each pixel's grey level, "
    "the largest over the channels (Simonyan et al. "
    f"2014). SmoothGrad: its mean over {COPIES} copies with normal noise of {NOISE:.0%} of "
    "the image's range (Smilkov et al. 2017). "
    f"Occlusion: a patch of {PATCH} × {PATCH} pixels with the training rows' mean slides over "
    f"the image, {STRIDE} pixels at a time (Zeiler "
    "and Fergus 2014); a pixel shows the mean fall of the class's probability over the "
    "patches that hide it. Gradients show the effect of a small change, occlusion the loss without "
    "a part; neither shows that the network looks at a face as people do.",
    "Convolutions: what comes out of them, before normalisation and activation.",
)


def parser() -> argparse.ArgumentParser:
    p = Parser(
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
        "default: the most confident correct test row and the most confident wrong one",
    )
    p.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="class whose score is explained; default: the predicted one; action units must be "
        "named",
    )
    p.add_argument(
        "--layer", metavar="NAME", help="only this convolution's feature maps; default: every one's"
    )
    p.add_argument(
        "--trial",
        type=int,
        default=0,
        metavar="N",
        help="for a cross-validation: which fold and seed, as in predictions.npz",
    )
    p.add_argument(
        "--root",
        metavar="DIR",
        help="folder that contains the releases (for your own images: config.data.path), if it has "
        "moved",
    )
    p.add_argument(
        "--out",
        type=local_path,
        metavar="DIR",
        help="where to write; default: the folder `inside` in the run directory",
    )
    return p


def explain(args: argparse.Namespace, command: str) -> Path:
    """Runs the command line; returns the page.

    Raises:
      UserError: run, data, image, class or layer are missing, or the folder cannot be written to.
    """
    recognizer = Recognizer.restore(args.run_dir, trial=args.trial)
    content, found = (
        contents.read_config(args.run_dir / run.CONFIG, contents.TRAINED),
        contents.read_predictions(args.run_dir / run.PREDICTIONS),
    )
    dataset = load_data.of_run(args.run_dir, content, args.root)
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
        *(NOTES[1:] if names else [f"{model} has no convolution, and so no feature maps."]),
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
    """Runs `explain` for a run at a path or an address; returns the page's path or address."""
    with mirror.opened(args.run_dir) as folder:
        return mirror.display_path(
            explain(argparse.Namespace(**{**vars(args), "run_dir": folder}), command)
        )


def check(
    args: argparse.Namespace, recognizer: Recognizer, dataset: Dataset, names: Sequence[str]
) -> None:
    """Raises one UserError that lists everything on the command line that does not exist."""

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
        ["it decides whole clips: the figure `attention` of its report shows which frames count"]
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
            f"--class: missing; for action units, one must be named: {', '.join(classes)}"
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
        raise UserError(f"{args.run_dir} cannot be explained with these options", problems)


def look(
    recognizer: Recognizer,
    dataset: Dataset,
    found: dict[str, np.ndarray],
    choice: ExplainTarget,
    names: Sequence[str],
) -> explanation_page.Explained:
    """Computes all maps of one image."""
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
