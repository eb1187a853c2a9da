"""Every network of every config takes a batch whose size is not known until it runs, as exported
programs do.
"""

import contextlib
import importlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from fexpr import models
from fexpr.errors import UserError

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("[a-z]*_*.py"))


def networks():
    for name in CONFIGS:
        config = importlib.import_module(f"configs.{name}").get_config()
        if config.model.name in models.MODELS:
            yield pytest.param(config, id=name)


@pytest.mark.parametrize("config", list(networks()))
def test_a_batch_of_any_size(config):
    model, side = models.build(num_classes=5, **config.model.to_dict()), config.data.image_size

    def outcome(function, *arguments, batch, channels):
        return jax.eval_shape(
            partial(function, train=False),
            *arguments,
            jax.ShapeDtypeStruct((batch, side, side, channels), jnp.float32),
        )

    for channels in (3, 1, 2):  # flow or colour, grey, grey with a map: whatever this network reads
        with contextlib.suppress(UserError):
            variables = outcome(model.init, jax.random.key(0), batch=1, channels=channels)
            break
    (batch,) = jax.export.symbolic_shape("batch")
    assert (
        str(outcome(model.apply, variables, batch=batch, channels=channels).shape) == "(batch, 5)"
    )
