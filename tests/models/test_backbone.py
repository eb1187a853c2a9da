"""Networks cut in two say the same as whole; frozen batch norms neither use nor follow the
batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fexpr.models import build
from fexpr.models.backbone import FrozenBatchNorm, split_backbone_and_head
from tests.marks import keep_short

IMAGES = np.random.default_rng(0).normal(0, 1, (4, 16, 16, 1)).astype(np.float32)
NETWORKS = {
    "vggface_vgg16": {"widths": (3,), "convolutions": (1,), "image_size": 8, "hidden": (5,)},
    "vgg_fer": {"widths": (3,), "convolutions": 1, "hidden": (5,)},
    "fer_cnn_simple": {},
}


@pytest.mark.parametrize("name", keep_short(NETWORKS, ["vgg_fer", "fer_cnn_simple"]))
def test_trunk_and_end_make_the_whole(name):
    model = build(name, num_classes=3, **NETWORKS[name])
    variables = jax.jit(model.init)(jax.random.key(1), IMAGES)
    trunk, end = split_backbone_and_head(model, jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32))
    features = trunk(variables, IMAGES)
    part = {"params": {end.name: variables["params"][end.name]}}
    assert jax.tree.structure(
        end.init(jax.random.key(0), features, train=False)
    ) == jax.tree.structure(part)
    np.testing.assert_array_equal(
        end.apply(part, features[:, None, None], train=False), model.apply(variables, IMAGES)
    )


def test_named_batch_norms_stand_still_and_others_do_not():
    model = build("vgg_fer", num_classes=3, widths=(3, 4), convolutions=1, hidden=(), dropout=0.0)
    variables = jax.tree.map(lambda x: x + 0.1, jax.jit(model.init)(jax.random.key(1), IMAGES))
    logits, updated = FrozenBatchNorm(model, "^norm_").apply(
        variables, IMAGES, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(logits, model.apply(variables, IMAGES), rtol=1e-6)
    jax.tree.map(
        np.testing.assert_array_equal, dict(updated["batch_stats"]), dict(variables["batch_stats"])
    )
    _, updated = FrozenBatchNorm(model, "^norm_0/").apply(
        variables, IMAGES, train=True, mutable=["batch_stats"]
    )
    before, after = variables["batch_stats"], updated["batch_stats"]
    moved = {name: not np.array_equal(before[name]["mean"], after[name]["mean"]) for name in before}
    assert moved == {"norm_0": False, "norm_1": True}
