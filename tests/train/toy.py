"""A tiny task for the train room: two channels of noise whose means carry three labels, and a
network that learns them.
"""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax

from fexpr.config import declarations
from fexpr.train import devices as device_memory
from fexpr.train.augment import Augment
from fexpr.train.mesh import make_mesh
from fexpr.train.state import make_recipe
from fexpr.train.train_config import AugmentConfig, OptimizerConfig, TrainConfig
from fexpr.train.trial_tables import TrialSpec
from fexpr.train.trials import Engine

ROWS, CLASSES = 96, 3
SECTIONS = {"train": TrainConfig, "optimizer": OptimizerConfig, "augment": AugmentConfig}


class TinyNet(nn.Module):
    @nn.compact
    def __call__(self, images, train=False, mask=None):
        x = nn.relu(nn.Dense(16)(images.reshape(len(images), -1)))
        return nn.Dense(CLASSES)(x)


def task(seed=0):
    """images uint8 [96,6,6,3], labels float32 [96,3]."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((ROWS, CLASSES)) < 0.4).astype(np.float32)
    images = 110 + 30 * labels[:, None, None, :] + rng.normal(0, 25, (ROWS, 6, 6, CLASSES))
    return np.clip(images, 0, 255).astype(np.uint8), labels


def spec(fold=0, train=40, **changes):
    """A trial with its own rows: the first `train` after a rotation by the fold's number, then 12
    to validate, 16 to test.
    """
    order = np.roll(np.arange(ROWS), -7 * fold)
    return TrialSpec(order[:train], order[60:72], order[72:88], fold=fold, **changes)


def recipe(model=None, augment=None, targets="presence", **changes):
    """A recipe of fields by their names alone; `optimizer` is optimizer.name."""
    fields = {"epochs": 6, "batch_size": 8, "schedule": "cosine", "clip_norm": 1.0} | changes
    augment = augment or Augment(kind="flow", flip=0.5, noise=2.0)
    config = {"augment": dataclasses.asdict(augment), "optimizer": {}, "train": {}}
    if "optimizer" in fields:
        config["optimizer"]["name"] = fields.pop("optimizer")
    if targets != "class":
        config["train"]["targets"] = targets
    for name, value in fields.items():
        (section,) = (s for s, kind in SECTIONS.items() if name in declarations(kind))
        config[section][name] = value
    return make_recipe(
        config, model or TinyNet(), augment.kind, targets in ("presence", "intensity")
    )


def engine(
    specs,
    devices=1,
    data=None,
    trial_axis="vmap",
    chunk=0,
    soft=None,
    compiled=True,
    **changes,
):
    images, labels = task() if data is None else data
    mesh = make_mesh(len(specs), 8, jax.devices()[:devices])
    made = Engine(recipe(**changes), images, labels, CLASSES, specs, mesh, trial_axis, chunk, soft)
    share_programs(made, compiled)
    made.load(0)
    return made


_programs = {}


def share_programs(made, compiled=True):
    """Compiles an engine, or gives it the programs of an earlier one with the same recipe, devices
    and shapes: compiling takes longer than everything else in these tests.
    """
    shapes = [(x.shape, str(x.dtype)) for x in jax.tree.leaves((made.data, made.trials))]
    same_init = ("init", made.recipe, made.mesh, made.mapped, jax.tree.structure(made.data))
    made._init = _programs.setdefault(same_init, made._init)
    if compiled:
        parts = getattr(made, "part_steps", None)
        key = (*same_init, *shapes, len(made.specs), made.size, parts, device_memory.memory_limit())
        if key in _programs:
            vars(made).update(_programs[key])
        else:
            before = dict(vars(made))
            made.compile()
            after = vars(made).items()
            _programs[key] = {k: v for k, v in after if v is not before.get(k)}


def run(specs, epochs=2, **kwargs):
    """The final state on the host and the scalars of every epoch [E, T]; all chunks."""
    e = engine(specs, **{"epochs": max(6, epochs)} | kwargs)
    states, histories = [], []
    for chunk in range(e.plan.chunks):
        e.load(chunk)
        state, rows = e.init(), []
        for _ in range(epochs):
            state, scalars = e.epoch(state)
            rows.append(e.to_host(scalars))
        states.append(e.to_host(state))
        histories.append({k: np.stack([r[k] for r in rows]) for k in rows[0]})
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *states)
    return joined, {k: np.concatenate([h[k] for h in histories], 1) for k in histories[0]}


def followed(transformation, params, steps=3):
    """Parameters after a few updates by an optax transformation whose gradients depend on the
    parameters and on the step.
    """
    with jax.numpy_dtype_promotion("standard"):
        state = transformation.init(params)
        for i in range(steps):
            grads = jax.tree.map(lambda p, i=i: p * 0.3 + 0.1 * i, params)
            updates, state = transformation.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    return params
