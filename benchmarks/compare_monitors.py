"""What choosing the epoch by another monitor changes: one training, every monitor.

    python -m benchmarks.compare_monitors ststnet_megc2019 --out=/tmp/monitors

A monitor changes no step of the training (without train.patience), so that one run serves all:
after each epoch every monitor scores the validation rows, and keeps the logits of its best. Test
rows are looked at once, at the end: differences to the first monitor, paired by subject, of the
model's own probabilities and after a temperature fitted to validation rows of other subjects.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks.quick import add_quick
from fexpr import terminal
from fexpr.errors import UserError
from fexpr.evaluate.map_choice import parts_of
from fexpr.evaluate.paired import Candidate, compare
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.recalibration import fit_temperature
from fexpr.evaluate.report.headline import in_words
from fexpr.evaluate.report.paired_report import print_paired
from fexpr.runs import describe, results
from fexpr.runs.build import build_engine
from fexpr.runs.spec import RunSpec
from fexpr.storage import run
from fexpr.train.losses import cross_entropy
from fexpr.train.monitors import accuracy, negative_loss, refinement, uf1
from fexpr.train.state import SelectedEpoch

MONITORS = {"accuracy": accuracy, "loss": negative_loss, "refinement": refinement, "uf1": uf1}


def best_epochs(config: ConfigDict, names: Sequence[str]) -> tuple[dict[str, dict], str]:
    """Trains, and gives for each monitor the arrays of predictions.npz with its best validation
    epoch as 'best_val'; and the source of the data.

    Raises:
      UserError: several chunks of trials, early stopping, or action units.
    """
    if config.train.loss != "cross_entropy" or config.train.patience:
        raise UserError("the comparison is of one-of-K tasks without train.patience")
    dataset, folds = describe.prepare(config)
    engine = build_engine([RunSpec(config, Path("monitors"))], dataset, folds)
    if engine.compile().chunks > 1:
        raise UserError("the trials do not fit into memory together", fix="lower split.seeds")
    engine.load(0)
    trials = len(engine.specs)
    labels = dataset.labels[engine.trials.eval_rows[:trials]]
    mask = engine.trials.val_mask[:trials]

    @jax.jit
    def scores(logits: jax.Array) -> dict[str, jax.Array]:
        losses = jax.vmap(lambda z, y: cross_entropy(z, y, jnp.ones(z.shape[-1]), jnp.float32(0)))(
            logits, labels
        )
        return {name: jax.vmap(MONITORS[name])(logits, labels, mask, losses) for name in names}

    state, best = engine.init(), {}
    with terminal.progress("training", config.train.epochs) as advance:
        for _ in range(config.train.epochs):
            state, _ = engine.epoch(state)
            last = jax.tree.map(lambda x: x[:trials], engine.to_host(state.last))
            for name, score in engine.to_host(scores(last.logits)).items():
                now = SelectedEpoch(last.epoch, score, last.logits)
                best[name] = _better(best[name], now) if name in best else now
            advance()
    host = jax.tree.map(lambda x: x[:trials], engine.to_host(state))
    found = {
        name: results.predictions(
            dataset, folds, engine, slice(0, trials), host._replace(best_val=choice)
        )
        for name, choice in best.items()
    }
    return found, dataset.source


def _better(before: SelectedEpoch, now: SelectedEpoch) -> SelectedEpoch:
    """Of each trial the epoch with the higher score, the earlier of equal ones."""
    higher = now.score > before.score
    pick = lambda a, b: np.where(higher.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    return jax.tree.map(pick, now, before)


def after_temperature(predictions: dict, selection: str = "best_val") -> dict:
    """The predictions with test logits after the temperature of validation rows (map_choice)."""
    p = checked(predictions, selection)
    logits = p["logits"].astype(np.float64)
    tested = (p["selection"] == selection) & (p["split"] == "test")
    for part in parts_of(p, selection):
        fitted = fit_temperature(*(p[name][part.rows] for name in ("logits", "labels", "split")))
        mine = tested & np.isin(p["trial"], part.trials)
        logits[mine] = fitted(logits[mine])
    return p | {"logits": logits}


def type_of(config: ConfigDict, name: str) -> type:
    """Of the field `name`, such as train.epochs."""
    return type(functools.reduce(lambda part, key: part[key], name.split("."), config))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_monitors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("config", help="a file of configs/, without .py; an experiment 'cross_validate'")
    p.add_argument("--monitors", default="accuracy,loss,refinement", help=f"of {list(MONITORS)}")
    p.add_argument("--out", type=Path, required=True, help="a new folder")
    p.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="of the config: train.epochs=20"
    )
    p.add_argument("--resamples", type=int, default=1000)
    tiny = ["data.source=synthetic", "train.epochs=2", "split.seeds=1"]
    add_quick(p, set=tiny, resamples=50)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    names = args.monitors.split(",")

    def work() -> None:
        config = importlib.import_module(f"configs.{args.config}").get_config()
        for text in args.set:
            name, _, value = text.partition("=")
            config.update_from_flattened_dict({name: type_of(config, name)(value)})
        found, source = best_epochs(config, names)
        for heading, arrays in (
            ("the model's own probabilities", found),
            ("after a temperature", {n: after_temperature(a) for n, a in found.items()}),
        ):
            terminal.say(f"\n{heading}")
            compared = compare(
                [Candidate(name, arrays[name], "best_val", source) for name in names],
                resamples=args.resamples,
            )
            print_paired(compared)
            first = compared["candidates"][0]
            terminal.say(f"log loss   {first['name']}: {in_words(first['test']['nll'])}")
            for one, less in zip(compared["candidates"][1:], compared["differences"], strict=True):
                terminal.say(
                    f"           {one['name']}: {in_words(one['test']['nll'])}, less that of "
                    f"{first['name']} {in_words(less['nll'])}"
                )
            run.write_json(args.out / f"{heading.replace(' ', '_')}.json", compared)
        for name, one in found.items():
            run.write_arrays(args.out / f"{name}.npz", one)
            epochs = one["epoch"][:, 1]
            terminal.say(f"{name}: median epoch {np.median(epochs):.0f} of {config.train.epochs}")

    return terminal.exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
