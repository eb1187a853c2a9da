"""Models: linen modules, `model.apply(variables, images, train=…, mask=…)` -> logits
float32 [B, K].

Images are float32 NHWC, augmented and normalised already. `mask` (bool [B]) marks the real rows of
a padded batch; `train` turns dropout on (give `rngs={"dropout": key}`) and takes batch statistics
from the batch (give `mutable=["batch_stats"]`).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fexpr.config import Entry, resolve
from fexpr.errors import UserError

if TYPE_CHECKING:
    import flax.linen as nn
    from jaxtyping import PyTree

    from fexpr.models.auxiliary import AuxiliaryOutputs
    from fexpr.models.backbone import FrozenBatchNorm

# imported when they are built; an extension (docs/recipes.md) adds classes, or 'my_lab.nets:MyNet'
MODELS: dict[str, Entry | type[nn.Module] | str] = {
    "htnet": Entry("fexpr.models.htnet:HTNet"),
    "aucnn": Entry("fexpr.models.aucnn:SimpleAUCNN"),
    "ststnet": Entry("fexpr.models.ststnet:STSTNet"),
    "sssnet": Entry("fexpr.models.micro_cnns:SSSNet"),
    "off_apexnet": Entry("fexpr.models.micro_cnns:OffApexNet"),
    "rcn_a": Entry("fexpr.models.micro_cnns:RCNA"),
    "logistic": Entry("fexpr.models.classifiers:Logistic"),
    "mlp": Entry("fexpr.models.classifiers:MLP"),
    "fer_cnn_simple": Entry("fexpr.models.fer_cnns:SimpleFERCNN"),
    "fer_cnn_thesis": Entry("fexpr.models.fer_cnns:ThesisCNN"),
    "fer_cnn_pytorch": Entry("fexpr.models.fer_cnns:DoubleConvCNN"),
    "digits_cnn": Entry("fexpr.models.fer_cnns:DigitsCNN"),
    "vgg_fer": Entry("fexpr.models.vgg_fer:VGGFER"),
    "resnet": Entry("fexpr.models.resnet:ResNet"),
    "resnet_pooled": Entry("fexpr.models.resnet:PooledResNet"),
    "deep_emotion": Entry("fexpr.models.deep_emotion:DeepEmotion"),
    "deep_emotion_clips": Entry("fexpr.models.deep_emotion_clips:DeepEmotionClips"),
    "vggface_vgg16": Entry("fexpr.models.vggface_vgg16:VGGFaceVGG16"),
    "vggface_resnet50": Entry("fexpr.models.vggface_resnet50:VGGFaceResNet50"),
}
NORMALIZE = {"vggface_vgg16": "none", "vggface_resnet50": "none"}  # the only train.normalize of
#   networks that prepare images themselves


def build(name: str, **arguments: Any) -> nn.Module:
    """The model `name` of MODELS, made with its constructor arguments. Lists are taken as tuples.

    Raises:
      UserError: no such model; arguments that are unknown, missing or impossible.
    """
    model, fields = model_class(name), arguments_of(name)
    required = [
        n
        for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    problems = [
        f"{n}: {name} has no such argument" + _nearest(n, fields)
        for n in arguments
        if n not in fields
    ]
    problems += [f"{n}: missing" for n in required if n not in arguments]
    if problems:
        raise UserError(
            f"model {name!r} cannot be built",
            problems,
            fix=f"its arguments are {', '.join(fields)}",
        )
    return model(
        **{n: tuple(value) if isinstance(value, list) else value for n, value in arguments.items()}
    )


def model_class(name: str) -> type[nn.Module]:
    """The model `name` of MODELS, made callable as (images, train, mask), whichever of these it
    declares.

    Raises:
      UserError: no such model, or one that cannot be called in this way.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(str(name), MODELS, n=1, cutoff=0.4)
        raise UserError(
            f"there is no model {name!r}",
            [f"config.model.name: expected one of {', '.join(MODELS)}; found {name!r}"],
            fix=f"did you mean {near[0]!r}?"
            if near
            else "set config.model.name to one of these; a model of your own must be registered by "
            "a module in config.extensions (docs/recipes.md)",
        )
    return _adapted(resolve(MODELS[name]), name)


@functools.cache
def _adapted(model: type[nn.Module], name: str) -> type[nn.Module]:
    """The class, or one with the same fields and parameters that accepts and drops `train` or
    `mask` if the class's `__call__` does not declare them.
    """
    import flax.linen as nn  # not needed for the check of a config

    if not (isinstance(model, type) and issubclass(model, nn.Module)):
        raise UserError(
            f"model {name!r} cannot be used",
            [f"expected a flax.linen Module class, found {model!r}"],
            fix="register the class itself: MODELS['my_net'] = MyNet",
        )
    parameters = dict(list(inspect.signature(model.__call__).parameters.items())[1:])
    images, *rest = parameters.values() if parameters else (None,)
    dropped = {"train", "mask"} - set(parameters)
    if any(p.kind is p.VAR_KEYWORD for p in rest):
        dropped = set()
    problems = (
        []
        if images is not None
        and images.kind in (images.POSITIONAL_ONLY, images.POSITIONAL_OR_KEYWORD)
        else ["its __call__ takes no images"]
    )
    problems += [
        f"its __call__ needs {p.name}, which fexpr does not pass"
        for p in rest
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in ("train", "mask")
    ]
    if "train" in dropped:
        problems += [
            f"its __call__ has {other}, and no train: dropout or batch norm would never be switched"
            for other in ("training", "is_training", "deterministic", "use_running_average")
            if other in parameters
        ]
    if "num_classes" not in model.__dataclass_fields__:
        problems.append("it has no field num_classes")
    if problems:
        raise UserError(
            f"model {name!r} ({model.__name__}) cannot be used",
            problems,
            fix="declare num_classes: int and __call__(self, images, train=False, mask=None); "
            "train and mask may be left "
            "out where the model does not need them",
        )
    if not dropped:
        return model

    def __call__(self, images, train=False, mask=None):
        given = {
            n: value for n, value in {"train": train, "mask": mask}.items() if n not in dropped
        }
        return model.__call__(self, images, **given)

    return type(
        model.__name__,
        (model,),
        {"__call__": __call__, "__module__": model.__module__, "__doc__": model.__doc__},
    )


def build_to_predict(
    arguments: Mapping[str, Any], classes: int, auxiliary: int = 0
) -> nn.Module | AuxiliaryOutputs:
    """The model of `config.model` (name and constructor arguments), with `auxiliary` outputs of a
    second task that are only used in training; errors as in `build`.
    """
    from fexpr.models.auxiliary import AuxiliaryOutputs

    model = build(num_classes=classes + auxiliary, **arguments)
    return AuxiliaryOutputs(model, classes) if auxiliary else model


def build_to_train(
    arguments: Mapping[str, Any], classes: int, devices: int, freeze: str, auxiliary: int = 0
) -> nn.Module | AuxiliaryOutputs | FrozenBatchNorm:
    """The model in the form that a trial trains; errors as in `build`.

    Args:
      arguments, auxiliary: as in `build_to_predict`.
      devices: the number that share a batch; with several, batch norms use the statistics of the
          whole batch.
      freeze: regex of parameters that are not trained, '' = none.
    """
    from fexpr.models.backbone import FrozenBatchNorm

    given, name = dict(arguments), arguments["name"]
    if devices > 1 and name in MODELS and "axis_name" in arguments_of(name):
        given["axis_name"] = "data"
    model = build_to_predict(given, classes, auxiliary)
    return FrozenBatchNorm(model, freeze) if freeze else model


def arguments_of(name: str) -> dict[str, dataclasses.Field]:
    """The constructor arguments of the model `name` of MODELS."""
    return {
        f.name: f for f in dataclasses.fields(model_class(name)) if f.name not in ("name", "parent")
    }


def count_parameters(params: Mapping[str, PyTree]) -> int:
    """The number of entries in a tree of parameters (arrays or shapes).

    Give `variables["params"]` for what is trained. All of `variables` is what Keras prints as
    "Total params": it counts the moving mean and variance of batch norm too, which it calls
    non-trainable.
    """
    import jax

    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _nearest(name: str, names: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
