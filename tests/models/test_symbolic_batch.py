"""Every network of every config takes a batch whose size is not known until it runs, as exported programs do."""

import importlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from fexpr import models

CONFIGS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs").glob("[a-z]*_*.py"))


def networks():
    for name in CONFIGS:
        config = importlib.import_module(f"configs.{name}").get_config()
        if config.model.name in models.MODELS:
            yield pytest.param(config, id=name)


@pytest.mark.parametrize("config", list(networks()))
def test_a_batch_of_any_size(config):
    model = models.build(num_classes=5, **config.model.to_dict())
    shape = (config.data.image_size,) * 2 + ((1,) if config.data.name == "fer2013" else (3,))
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    (batch,) = jax.export.symbolic_shape("batch")
    logits = jax.eval_shape(partial(model.apply, train=False), variables, jax.ShapeDtypeStruct((batch, *shape), jnp.float32))
    assert str(logits.shape) == "(batch, 5)"
