"""The VGGFace networks as keras-vggface defines them, built in Keras 3 on its JAX backend, and
their files in every layout.

Keras 3 allows no / in a layer's name, so the layers here have _ for it; `legacy_h5` writes the
names of the published files.
"""

import os
import warnings

os.environ["KERAS_BACKEND"] = "jax"

import absl.logging
import h5py
import jax
import keras
import numpy as np
from keras import layers


def vgg16(side, widths, convolutions, top=(), classes=None):
    """`top`: widths of fc6, fc7 and the number of people; none: without top, then mean over places;
    `classes`: the head of the Keras notebook."""
    x = images = keras.Input((side, side, 3))
    for block, (width, count) in enumerate(zip(widths, convolutions, strict=True), 1):
        for i in range(1, count + 1):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{block}_{i}")(
                x
            )
        x = layers.MaxPooling2D(2, 2, name=f"pool{block}")(x)
    x = layers.Flatten()(x) if top else layers.GlobalAveragePooling2D()(x)
    for i, width in enumerate(top, 6):
        x = layers.Dense(width, activation="relu" if i < 5 + len(top) else None, name=f"fc{i}")(x)
    for i, width in enumerate(classes or ()):
        x = layers.Dense(
            width, activation="relu" if i + 1 < len(classes) else None, name=f"dense_{i + 9}"
        )(x)
    return keras.Model(images, x, name="vggface_vgg16")


def resnet50(side, width, blocks, top=(), classes=()):
    def layer(x, name, features, size, stride=1, padding="valid"):
        x = layers.Conv2D(
            features, size, strides=stride, padding=padding, use_bias=False, name=name
        )(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    images = keras.Input((side, side, 3))
    x = layers.MaxPooling2D(3, strides=2)(
        layers.ReLU()(layer(images, "conv1_7x7_s2", width, 7, 2, "same"))
    )
    for stage, count in enumerate(blocks, 2):
        for b in range(1, count + 1):
            name, features, stride = (
                f"conv{stage}_{b}",
                width * 2 ** (stage - 2),
                2 if stage > 2 and b == 1 else 1,
            )
            y = layers.ReLU()(layer(x, f"{name}_1x1_reduce", features, 1, stride))
            y = layers.ReLU()(layer(y, f"{name}_3x3", features, 3, 1, "same"))
            y = layer(y, f"{name}_1x1_increase", 4 * features, 1)
            x = layers.ReLU()(
                layers.Add()(
                    [y, layer(x, f"{name}_1x1_proj", 4 * features, 1, stride) if b == 1 else x]
                )
            )
    x = layers.Flatten()(layers.AveragePooling2D(x.shape[1], name="avg_pool")(x))
    for width_ in top:
        x = layers.Dense(width_, name="classifier")(x)
    for i, width_ in enumerate(classes):
        x = layers.Dense(
            width_,
            activation="relu" if i + 1 < len(classes) else None,
            name="dense" + (f"_{i}" if i else ""),
        )(x)
    return keras.Model(images, x, name="vggface_resnet50")


def randomised(model, seed=0):
    """Weights that keep activations near their size, batch statistics and biases that are not the
    first ones.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = weight.shape
        if len(shape) > 1:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        elif weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, 0.1, shape)
        weight.assign(value.astype(np.float32))
    return model


def published_name(name):
    """conv1_7x7_s2_bn -> conv1/7x7_s2/bn; conv2_1_1x1_reduce_bn -> conv2_1_1x1_reduce/bn."""
    return name.replace("conv1_7x7", "conv1/7x7").replace("_bn", "/bn")


def legacy_h5(path, model):
    """As rcmalli_vggface_tf_*.h5: attributes layer_names and weight_names, bytes, ':0' behind each
    name, slashes that nest groups.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [published_name(layer.name).encode() for layer in model.layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.0.8", b"tensorflow"
        for layer in model.layers:
            group, name = file.require_group(published_name(layer.name)), published_name(layer.name)
            group.attrs["weight_names"] = [f"{name}/{w.name}:0".encode() for w in layer.weights]
            for w in layer.weights:
                group[f"{name}/{w.name}:0"] = np.asarray(w)
    return path


def save(model, path):
    """As Keras 3 itself saves: weights alone (.weights.h5), or a whole model (.h5, .keras). Its
    warnings are not ours.
    """
    absl.logging.set_verbosity("error")
    with warnings.catch_warnings(action="ignore"):
        model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)


def outputs(model, images_rgb, means_bgr):
    """Logits or features of RGB images float32 in 0..255, prepared as
    keras_vggface.utils.preprocess_input does it.
    """
    prepared = images_rgb[..., ::-1].copy()
    for channel, mean in enumerate(means_bgr):
        prepared[..., channel] -= mean
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return np.asarray(model(prepared, training=False))
