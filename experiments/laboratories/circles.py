"""Laboratory 1 (Angel 2021): what one hidden layer buys. Two circles, one inside the other: no line
separates them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange
from jaxtyping import Float, Int, PyTree
from ml_collections import ConfigDict
from sklearn.datasets import make_circles
from sklearn.model_selection import StratifiedKFold

from experiments.laboratories import lab_report
from fexpr import models
from fexpr.evaluate.report import drawing
from fexpr.runs import opening
from fexpr.runs.spec import RunSpec
from fexpr.storage import run
from fexpr.terminal import say
from fexpr.train import devices
from fexpr.train.state import Model

NETWORKS = {
    "logistic regression": {"name": "logistic"},
    "hidden layer of 32": {"name": "mlp", "hidden": (32,), "batch_norm": False, "dropout": 0.0},
}
PUBLISHED = {"logistic regression": 0.46, "hidden layer of 32": 0.82}  # Angel 2021, five folds
# the grid of the drawing: points per side, from -REACH to REACH
FIGURE, SIDE, REACH = "boundaries.png", 120, 1.5


def lab_circles(config: ConfigDict, workdir: Path) -> None:
    """Writes config.json, metrics.json, figures/boundaries.png and report.html to `workdir`; takes
    seconds; every call trains again.

    Every fold of stratified cross-validation is a row of one vmapped program: the whole training
    set is a batch (train.epochs steps of Adam), so only the initial weights are random.

    Raises:
      UserError: the run directory contains another run, or cannot be written.
    """
    points, labels = map(np.asarray, make_circles(1000, noise=0.1, random_state=1))
    points, labels = points.astype(np.float32), labels.astype(np.int32)
    folds = list(
        StratifiedKFold(config.split.folds, shuffle=True, random_state=config.split.seed).split(
            points, labels
        )
    )
    source = "scikit-learn make_circles(1000, noise=0.1, random_state=1)"
    info = opening.open_run(
        RunSpec(config, workdir),
        data={"name": "circles", "source": source, "rows": len(points), "folds": len(folds)},
        model={"name": ", ".join(NETWORKS)},
        devices=devices.facts(),
    )
    say(f"data       {source}: 1,000 points, 2 classes")
    say(
        f"split      {len(folds)} stratified folds: train {len(folds[0][0])}, test "
        f"{len(folds[0][1])}"
    )
    say(f"devices    {info['devices']['count']} x {info['devices']['kind']}")

    axis = np.linspace(-REACH, REACH, SIDE, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    metrics, drawn, rows = {"source": source, "networks": {}}, {}, []
    for name, arguments in NETWORKS.items():
        model = models.build(num_classes=2, **arguments)
        variables = fit(model, points, labels, np.stack([train for train, _ in folds]), config)
        probabilities = predict(model, variables, points)
        accuracy = lab_report.spread(
            [
                np.mean(probabilities[i, test].argmax(1) == labels[test])
                for i, (_, test) in enumerate(folds)
            ]
        )
        parameters = models.count_parameters(variables["params"]) // len(folds)
        metrics["networks"][name] = {
            "parameters": parameters,
            "accuracy": accuracy,
            "published": PUBLISHED[name],
        }
        rows.append(
            (name, f"{parameters:,}", lab_report.in_words(accuracy), f"{PUBLISHED[name]:.2f}")
        )
        inside = np.asarray(jax.nn.softmax(predict(model, variables, grid)))[..., 1]
        drawn[f"{name}: {lab_report.in_words(accuracy)}"] = rearrange(
            inside, "f (y x) -> f y x", y=SIDE
        )
    _draw(workdir / run.FIGURES / FIGURE, points, labels, axis, drawn)
    one, two = (metrics["networks"][name]["accuracy"]["mean"] for name in NETWORKS)
    lab_report.finish(
        workdir,
        "Two circles: a line against one hidden layer",
        metrics,
        ("network", "parameters", f"accuracy, {len(folds)} folds", "published"),
        rows,
        f"Logistic regression, whose boundary is a line, is right on {one:.3f} of the points "
        "it was not trained on (chance: 0.5), "
        f"one hidden layer of 32 on {two:.3f}.",
        [
            (
                FIGURE,
                "All points, and the boundary that each fold's network draws (lines). Colour: "
                "probability of the inner circle, "
                "mean over the folds. The noise makes the circles overlap, so no classifier "
                "is right everywhere.",
            )
        ],
    )


def fit(
    model: Model,
    points: Float[np.ndarray, "N 2"],
    labels: Int[np.ndarray, " N"],
    rows: Int[np.ndarray, "F n"],
    config: ConfigDict,
) -> PyTree:
    """Trains one network per fold, all at once. `rows` int [F, n]: each fold's training rows.
    Returns variables with a leading axis F.
    """
    optimizer = optax.adam(config.optimizer.learning_rate)

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(
            model.apply({"params": params}, x, train=True), y
        ).mean()

    def fold(key, rows_n):
        x, y = _images(points)[rows_n], jnp.asarray(labels)[rows_n]
        params = model.init(key, x[:1], train=False)["params"]

        def step(state, _):
            params, memory = state
            # optax raises a float to its integer step count
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimizer.update(jax.grad(loss)(params, x, y), memory)
            return (optax.apply_updates(params, updates), memory), None

        (params, _), _ = jax.lax.scan(
            step, (params, optimizer.init(params)), length=config.train.epochs
        )
        return {"params": params}

    return jax.jit(jax.vmap(fold))(jax.random.split(jax.random.key(config.seed), len(rows)), rows)


def predict(
    model: Model, variables: PyTree, points: Float[np.ndarray, "R 2"]
) -> Float[np.ndarray, "F R 2"]:
    """Logits [F, R, 2] of every fold's network for the points [R, 2]."""
    return np.asarray(
        jax.jit(jax.vmap(partial(model.apply, train=False), (0, None)))(variables, _images(points))
    )


def _images(points: np.ndarray) -> jax.Array:
    """Points [R, 2] in the shape that the models take: [R, 1, 1, 2]."""
    return rearrange(jnp.asarray(points), "r c -> r 1 1 c")


def _draw(
    path: Path,
    points: np.ndarray,
    labels: np.ndarray,
    axis: np.ndarray,
    drawn: dict[str, np.ndarray],
) -> None:
    """Draws a panel for each network: the probability of the inner circle, mean over folds [F, y,
    x], and every fold's boundary.
    """
    with drawing.canvas(
        path, "Two circles (1,000 generated points)", (drawing.WIDTH, 4.3), False
    ) as figure:
        for ax, (title, inside) in zip(figure.subplots(1, len(drawn)), drawn.items(), strict=True):
            ax.imshow(
                inside.mean(0),
                extent=(-REACH, REACH, -REACH, REACH),
                origin="lower",
                cmap="RdBu_r",
                vmin=0,
                vmax=1,
                alpha=0.45,
            )
            for one in inside:
                if one.min() < 0.5 < one.max():
                    ax.contour(axis, axis, one, levels=[0.5], colors="#222222", linewidths=0.9)
            for c, colour in enumerate((drawing.BLUE, drawing.RED)):
                ax.plot(*points[labels == c].T, ".", color=colour, ms=2.5)
            ax.set(title=title, xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
