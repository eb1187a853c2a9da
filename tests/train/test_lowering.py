"""Training step and recogniser of every model are lowered for CUDA and TPU, on a CPU: nothing
CPU-only hides in them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr import models
from fexpr.recognizer.network import Network, predict
from fexpr.train import trials
from fexpr.train.augment import Augment
from fexpr.train.mesh import make_mesh
from fexpr.train.trial_tables import TrialSpec
from tests.train import toy

SMALL = {
    "htnet": {"dim": 8, "heads": 2, "patch_size": 7, "num_hierarchies": 2, "block_repeats": 1},
    "vgg_fer": {"widths": (4, 8), "hidden": (8,)},
    "resnet": {"widths": (4, 8), "blocks": (1, 1)},
    "resnet_pooled": {"stem": 3, "widths": (4, 8), "blocks": (1, 1)},
}
SHAPES = {
    "htnet": (28, 28, 3),
    "aucnn": (28, 28, 3),
    "ststnet": (28, 28, 3),
    "sssnet": (28, 28, 3),
    "off_apexnet": (28, 28, 3),
    "rcn_a": (28, 28, 3),
    "digits_cnn": (28, 28, 1),
    "vggface_vgg16": (48, 48, 3),
    "vggface_resnet50": (48, 48, 3),
    "deep_emotion_clips": (48, 48, 2),
}
PLATFORMS = ("cuda", "tpu")
CPU_ONLY = ("lapack", "ducc_fft", "xla_ffi_python_cpu", "onednn", "ynn")  # targets of custom calls


def shapes_of(name):
    return SHAPES.get(name, (48, 48, 1))


def lowered_text(function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=PLATFORMS).as_text()


def epochs():
    for name in models.MODELS:
        yield pytest.param(name, "vmap")
    yield pytest.param("resnet", "map")


@pytest.mark.long  # what networks are made of is lowered by the recogniser's test too
@pytest.mark.parametrize(("name", "trial_axis"), list(epochs()))
def test_the_training_of_an_epoch_is_lowered_for_accelerators(name, trial_axis):
    shape = shapes_of(name)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (10, *shape), np.uint8), np.arange(10, dtype=np.int32) % 3
    augment = Augment(
        kind="face",
        alternate=True,
        rotation=5.0,
        zoom=0.1,
        shift=2,
        shift_p=0.5,
        contrast=0.2,
        light_p=0.5,
        erase=0.5,
    )
    clips = name == "deep_emotion_clips"
    recipe = toy.recipe(
        models.build(name, num_classes=3, **SMALL.get(name, {})),
        augment,
        "class",
        loss="cross_entropy",
        monitor="accuracy",
        batch_size=4,
        mixup=0.0 if clips else 1.0,
        optimizer="sgd",
        ema=0.9,
        precision="bfloat16",
        tta="none" if clips else "flip",
        schedule="constant",
        clip_norm=0.0,
    )
    specs = [
        TrialSpec(np.arange(6), np.arange(6, 8), np.arange(8, 10), seed=seed) for seed in range(2)
    ]
    engine = trials.Engine(
        recipe,
        images,
        labels,
        3,
        specs,
        make_mesh(2, 4, jax.devices()[:1]),
        trial_axis=trial_axis,
    )
    traced = engine.jitted_epoch.trace(engine.data, *engine.abstract_epoch())
    text = traced.lower(lowering_platforms=PLATFORMS).as_text()
    assert "stablehlo.while" in text
    assert not [call for call in CPU_ONLY if call in text]


@pytest.mark.parametrize("name", models.MODELS)
def test_the_recogniser_is_lowered_for_accelerators(name):
    shape = shapes_of(name)
    model = models.build(name, num_classes=3, **SMALL.get(name, {}))
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape), jnp.float32), train=False)
    )
    grey = jax.ShapeDtypeStruct((shape[2],), jnp.float32)
    network = Network(model, "bfloat16", "none", variables, grey, grey)
    text = lowered_text(predict, network, jax.ShapeDtypeStruct((4, *shape), jnp.uint8))
    assert not [call for call in CPU_ONLY if call in text]
