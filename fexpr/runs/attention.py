"""The attention weights of networks that weight the frames of a clip, for every test clip, saved
beside the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from fexpr import models
from fexpr.data.dataset import Dataset
from fexpr.data.splits.fold import Fold
from fexpr.recognizer import Network, in_batches
from fexpr.storage import run


def write(
    config: ConfigDict, workdir: Path, dataset: Dataset, folds: Sequence[Fold], variables: PyTree
) -> None:
    """Writes attention.npz if rows are clips and the network has `attention_weights`; otherwise
    nothing.

    It contains, for the test clips of every fold, from the fold's model of the first seed: `ids`
    str [N], `labels` int32 [N], `frame` int32 [N, F] (below 0: none), `weights` float32 [N, F] and,
    of a synthetic release, `shown` float32 [N, F].

    Args:
      variables: by trial, seed by seed and fold by fold, with the images' normalisation (`input`);
          on the host.
    """
    if dataset.kind != "clip" or not hasattr(
        models.model_class(config.model.name), "attention_weights"
    ):
        return
    model = models.build(num_classes=len(dataset.class_names), **config.model.to_dict())
    weights = []
    for t, fold in enumerate(folds):
        own = jax.tree.map(lambda x, t=t: x[t], dict(variables))
        scaling = own.pop("input")
        network = Network(
            model, config.train.precision, "none", own, scaling["mean"], scaling["std"]
        )
        weights.append(
            in_batches(
                partial(_weights, network), dataset.images[fold.test], config.train.eval_batch
            )
        )
    rows = np.concatenate([fold.test for fold in folds])
    found = {
        "ids": dataset.ids[rows],
        "labels": dataset.labels[rows],
        "weights": np.concatenate(weights),
    }
    found |= {
        name: dataset.extras[name][rows] for name in ("frame", "shown") if name in dataset.extras
    }
    run.write_arrays(workdir / run.ATTENTION, found)


@jax.jit
def _weights(network: Network, images: jax.Array) -> jax.Array:
    seen = network.normalized(images.astype(jnp.float32))
    return network.model.apply(network.variables, seen, method="attention_weights")
