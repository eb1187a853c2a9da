"""The layouts of files, by format and model: PyTorch's HTNet and Deep-Emotion, keras-vggface,
fexpr's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree

from fexpr.errors import UserError
from fexpr.models.auxiliary import AuxiliaryOutputs
from fexpr.models.deep_emotion import DeepEmotion
from fexpr.models.htnet import HTNet
from fexpr.models.vggface_resnet50 import VGGFaceResNet50
from fexpr.models.vggface_vgg16 import VGGFaceVGG16
from fexpr.models.weights import deep_emotion_layout, htnet_layout
from fexpr.models.weights.files import Weights
from fexpr.models.weights.fitting import TOP, Layout, Path, Report, fit_arrays, refuse_problems

# a run's export also contains how images were normalised
OWN = Layout(name=lambda path: "/".join(path), ignored=r"^input/")
TORCH: dict[type, Layout] = {HTNet: htnet_layout.LAYOUT, DeepEmotion: deep_emotion_layout.LAYOUT}
KERAS = (VGGFaceVGG16, VGGFaceResNet50)
PUBLISHED_TOP = r"^(fc[678]|classifier)/"  # identifies people; useless for another task
_KERAS_LEAVES = {
    "kernel": "kernel",
    "scale": "gamma",
    "mean": "moving_mean",
    "var": "moving_variance",
}

# Networks by array names that only their files have; the first match counts.
MARKS = (
    ("fexpr", r"^params/"),
    ("vggface_senet50, which fexpr has not", r"^conv2_1_1x1_(down|up)/"),
    ("vggface_resnet50", r"^conv2_1_1x1_reduce/"),
    ("vggface_vgg16", r"^conv1_1/"),
    ("htnet", r"^to_patch_embedding\."),
    ("deep_emotion", r"^fc_loc\.0\."),
    ("deep_emotion, variant baseline", r"^norm\.running_mean"),
)


def identify_network(names: Mapping[str, object]) -> str:
    """The network to which the names in a file belong, or ''."""
    return next(
        (model for model, pattern in MARKS if any(re.search(pattern, name) for name in names)), ""
    )


def load(
    weights: Weights,
    model: nn.Module | AuxiliaryOutputs,
    like: Mapping[str, PyTree],
    reinitialize: str = "",
) -> tuple[dict[str, PyTree], Report]:
    """The variables of `model` from a file, and the report by name (fitting.fit_arrays).

    Raises:
      UserError: no layout is known for this model in this format, or the file does not fit:
        everything missing, extra and of the wrong shape is listed, and nothing is loaded.
    """
    tree, report = fit_arrays(
        weights.arrays, like, _layout(weights, model, like, reinitialize), reinitialize
    )
    looks = identify_network(weights.arrays)
    refuse_problems(
        report,
        f"{weights.path} does not fit this {type(model).__name__}",
        (f"the file looks like {looks}; " if looks else "")
        + "build the model with the arguments that the weights were made "
        "with (config.model); config.init.anew names what to reinitialize on purpose",
    )
    return tree, report


def to_torch(model: object, variables: Mapping[str, PyTree]) -> dict[str, np.ndarray]:
    """A PyTorch state dict of a trained HTNet or DeepEmotion.

    Raises:
      UserError: there is no PyTorch release of this model.
    """
    if type(model) not in TORCH:
        raise UserError(
            f"there is no PyTorch layout for {type(model).__name__}",
            fix="only HTNet and DeepEmotion have one; fexpr's own layout fits all models",
        )
    layout = TORCH[type(model)]
    leaves = flatten_dict(variables).items()
    return {
        name: np.ascontiguousarray(layout.to_file(path, np.asarray(array)))
        for path, array in leaves
        if (name := layout.name(path)) is not None
    }


def _layout(
    weights: Weights,
    model: nn.Module | AuxiliaryOutputs,
    like: Mapping[str, PyTree],
    reinitialize: str,
) -> Layout:
    if identify_network(weights.arrays) == "fexpr":
        return OWN
    if weights.format.startswith("Keras") and isinstance(model, KERAS):
        return _keras(weights.arrays, like, reinitialize)
    if not weights.format.startswith("Keras") and type(model) in TORCH:
        return TORCH[type(model)]
    looks = identify_network(weights.arrays)
    raise UserError(
        f"{weights.path} cannot be loaded into {type(model).__name__}",
        [f"it is {weights.format}" + (f" and looks like {looks}" if looks else "")],
        fix="Keras files fit the vggface models, PyTorch files HTNet and DeepEmotion, fexpr's "
        "exports the model that they were made from",
    )


def _keras(
    arrays: Mapping[str, np.ndarray], like: Mapping[str, PyTree], reinitialize: str
) -> Layout:
    """The layout of keras-vggface files. Trunk layers match by name. Dense layers of any name match
    those of the top in order, if there are as many; the published top, which identifies people, is
    used only if all its shapes fit, and ignored otherwise.
    """
    tops = {
        path[1]: tuple(leaf.shape)
        for path, leaf in flatten_dict(like["params"]).items()
        if path[0] == TOP and path[-1] == "kernel"
    }
    ours = sorted(tops, key=lambda layer: (layer == "head", len(layer), layer))
    theirs = [
        name.rpartition("/")[0]
        for name, array in arrays.items()
        if name.endswith("/kernel") and array.ndim == 2
    ]
    published = any(re.match(PUBLISHED_TOP, f"{layer}/") for layer in theirs)
    fits = len(ours) == len(theirs) and (
        not published or [tops[a] for a in ours] == [arrays[f"{b}/kernel"].shape for b in theirs]
    )
    dense = dict(zip(ours, theirs, strict=True)) if fits else {}

    def name(path: Path) -> str | None:
        layer, leaf = (dense.get(path[2]), path[3]) if path[1] == TOP else path[1:]
        leaf = (
            "beta"
            if leaf == "bias" and layer and layer.endswith("_bn")
            else _KERAS_LEAVES.get(leaf, leaf)
        )
        return layer and f"{layer}/{leaf}"

    unused = (
        [f"^{re.escape(layer)}/" for layer in theirs]
        if not fits and (published or re.search(reinitialize or "$^", f"{TOP}/"))
        else []
    )
    return Layout(name, ignored="|".join(unused) or r"$^")
