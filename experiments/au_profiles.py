"""Do published Gaussians of action units describe RAVDESS? Compares them with its averaged clips,
emotion by emotion.

  python -m experiments.au_profiles au_gaussians_affectnet

For each emotion: the correlation of the two mean profiles over the 17 intensities, the traces of
both covariances, and the share of the emotion's clips whose nearest Gaussian is its own
(Mahalanobis distance). Calm counts as neutral, as the Gaussians have seven emotions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from configs import base
from experiments import frame_filters
from fexpr import terminal
from fexpr.command_parser import Parser, whole_number
from fexpr.data import data_sets
from fexpr.data.dataset import Dataset
from fexpr.data.releases import au_gaussians
from fexpr.evaluate import metrics
from fexpr.evaluate.bootstrap import RESAMPLES, bootstrap, interval
from fexpr.evaluate.evaluate_config import FEWEST, MOST
from fexpr.evaluate.report.headline import in_words
from fexpr.evaluate.report.text_tables import label_synthetic, make_table, print_table
from fexpr.storage.addresses import local_path
from fexpr.terminal import say


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="python -m experiments.au_profiles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "gaussians",
        type=local_path,
        metavar="DIR",
        help=f"holds {au_gaussians.MEANS} and the covariances (docs/data.md)",
    )
    p.add_argument(
        "--root",
        default="",
        metavar="DIR",
        help="holds ravdess/ (default: $FEXPR_DATA_DIR, else ~/fexpr_data)",
    )
    p.add_argument(
        "--resamples",
        type=whole_number(FEWEST, MOST),
        default=RESAMPLES,
        metavar="N",
        help=f"of the bootstrap over actors (default: {RESAMPLES})",
    )
    return p


def compare(dataset: Dataset, gaussians: frame_filters.Gaussians, resamples: int) -> dict:
    """`accuracy` and `uar` of classifying clips by the nearest Gaussian (value, low, high), and
    `emotions`, a row for each.

    Args:
      dataset: RAVDESS' averaged intensities, its eight emotions.
    """
    units = dataset.images[:][:, 0, 0]
    theirs = [au_gaussians.OF_RAVDESS[name] for name in dataset.class_names]
    names, first = np.unique(theirs, return_index=True)
    merged = np.array(theirs)[dataset.labels]
    predicted = np.array(theirs)[frame_filters.mahalanobis(units, gaussians).argmin(axis=1)]
    right = predicted == merged

    def shares(weights: np.ndarray) -> dict[str, np.ndarray]:
        recalls = [
            metrics.weighted_mean(right[merged == name], weights[:, merged == name])
            for name in names
        ]
        return {"accuracy": metrics.weighted_mean(right, weights), "uar": np.mean(recalls, axis=0)}

    point, drawn = shares(np.ones((1, len(right)))), bootstrap(shares, dataset.groups, resamples)
    actors, found = len(np.unique(dataset.groups)), {}
    for name, (value,) in point.items():
        ends = interval(drawn[name], value, actors, (0, 1))
        found[name] = {"value": float(value), "low": ends[0], "high": ends[1]}
    rows = []
    for k, name in enumerate(dataset.class_names):
        own = units[dataset.labels == k]
        rows.append(
            {
                "emotion": name,
                "clips": len(own),
                "correlation": float(np.corrcoef(own.mean(0), gaussians.mean[k])[0, 1]),
                "trace": float(np.trace(np.cov(own.T))),
                "their_trace": float(np.trace(gaussians.covariance[k])),
                "recall": float(right[dataset.labels == k].mean()),
            }
        )
    return found | {"emotions": rows, "chance": 1 / len(first)}


def profiles(args: argparse.Namespace) -> None:
    """Runs the command line.

    Raises:
      UserError: RAVDESS' table or the Gaussians are missing, or cannot be used.
    """
    config = base.get_config().data
    config.update(
        {"name": "ravdess_aus", "features": "intensities", "root": args.root, "source": "release"}
    )
    dataset = data_sets.load(config)
    found = compare(
        dataset, frame_filters.Gaussians(*au_gaussians.read(args.gaussians)), args.resamples
    )
    say(
        f"data       {dataset.source}: {len(dataset):,} clips of "
        f"{len(np.unique(dataset.groups))} actors; Gaussians of {args.gaussians}\n"
    )
    table = make_table(
        "emotion", "clips", "correlation of means", "trace here", "trace there", "recall"
    )
    for row in found["emotions"]:
        table.add_row(
            row["emotion"],
            str(row["clips"]),
            f"{row['correlation']:.2f}",
            f"{row['trace']:.1f}",
            f"{row['their_trace']:.1f}",
            f"{row['recall']:.3f}",
        )
    print_table(table, terminal.console)
    say(
        f"\nnearest Gaussian: accuracy {in_words(found['accuracy'])}, UAR "
        f"{in_words(found['uar'])}; chance {found['chance']:.3f}"
    )
    label_synthetic(dataset.source, terminal.console)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return terminal.exit_code(lambda: profiles(args))


if __name__ == "__main__":
    sys.exit(main())
