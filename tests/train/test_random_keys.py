"""Our keys draw JAX's own numbers, bit for bit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.models.vgg_fer import VGGFER
from fexpr.train import step
from fexpr.train.augment import Augment
from fexpr.train.random_keys import wrap_key
from tests.train import toy

DATA = np.array([7, 2**32 - 5], np.uint32)
DRAWS = {
    "uniform": lambda key: jax.random.uniform(key, (5, 7)),
    "normal": lambda key: jax.random.normal(key, (3,)),
    "bfloat16": lambda key: jax.random.uniform(key, (9,), jnp.bfloat16),
    "bits of 8": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "bits of 16": lambda key: jax.random.bits(key, (9,), jnp.uint16),
    "one number": lambda key: jax.random.bits(key),
    "nothing": lambda key: jax.random.bits(key, (0, 3)),
    "beta": lambda key: jax.random.beta(key, 0.4, 0.4, (6,)),
    "integers": lambda key: jax.random.randint(key, (6,), 0, 1000),
    "order": lambda key: jax.random.permutation(key, 11),
    "initial weights": lambda key: jax.nn.initializers.he_normal()(key, (3, 3, 4, 5)),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (4, 2))),
    "folded": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**32 - 1)),
    "folded by rows": lambda key: jax.random.key_data(
        jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(5))
    ),
}


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(draw, id=name, marks=pytest.mark.long if name == "beta" else ())
        for name, draw in DRAWS.items()
    ],
)
def test_the_numbers_are_jaxs(draw):
    found, expected = draw(wrap_key(DATA)), draw(jax.random.wrap_key_data(DATA))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_keys_of_many_trials():
    def draw(wrap):
        return jax.jit(jax.vmap(lambda data: jax.random.uniform(wrap(data), (4,))))

    many = np.stack([DATA, DATA[::-1]])
    np.testing.assert_array_equal(draw(wrap_key)(many), draw(jax.random.wrap_key_data)(many))


def test_keys_of_steps_are_those_of_a_table_of_all_steps():
    """The keys that runs of earlier versions drew: those runs can be repeated, and resumed."""
    specs = [toy.spec(0, 40)]
    engine = toy.engine(specs, compiled=False)
    trial = jax.tree.map(lambda x: jnp.asarray(x[0]), engine.trials)
    batches = step.batches(engine.recipe, engine.data, trial, jnp.int32(3))
    _, of_steps = jax.random.split(jax.random.fold_in(wrap_key(trial.key), 4))
    table = jax.random.key_data(jax.random.split(of_steps, (len(batches.rows), 2)))
    assert len(table) == 5
    for i, keys in enumerate(table):
        batch = batches.at(i)
        found = [jax.random.key_data(k) for k in step.keys_of(batch.key, batch.number)]
        np.testing.assert_array_equal(found, keys)


def test_no_key_is_repeated_along_an_axis():
    """LLVM of JAX 0.12 does not end on the loop that repeats a computed key. Other versions compile
    it, so the program's text must do.
    """
    augment = Augment(kind="face", alternate=True, rotation=5.0, erase=0.5, noise=2.0, mixup=0.4)
    model = VGGFER(toy.CLASSES, widths=(4,), hidden=(8,))
    images, labels = np.zeros((96, 12, 12, 1), np.uint8), toy.task()[1]
    engine = toy.engine(
        [toy.spec()],
        data=(images, labels),
        trial_axis="map",
        compiled=False,
        model=model,
        augment=augment,
    )
    text = str(engine.jitted_epoch.trace(engine.data, *engine.abstract_epoch()).jaxpr)
    assert re.search(r":key<fxt>\[\] = random_wrap", text)  # there are keys
    assert not re.findall(r":key<fxt>\[\d.*\] = broadcast_in_dim.*", text)
