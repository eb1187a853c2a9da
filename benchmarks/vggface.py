"""The full-size VGGFace networks against the same networks in Keras 3 (on JAX), from the same file:
equal answers, and features a second.

    pip install -r requirements-dev.txt
    python benchmarks/vggface.py --network=vgg16 --images=32

The weights are random and written as keras-vggface's `.h5` (the published ones are not ours to
give); both read that file's numbers. Ours begins with grey 48x48 faces, as FER2013's; Keras is
given the same faces scaled up and prepared already. Passes alternate in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import quick
from tests.models import keras_faces

CLASSES = 7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=("vgg16", "resnet50"), default="vgg16")
    parser.add_argument("--images", type=int, default=32, help="of a pass, and of its one batch")
    parser.add_argument("--repeats", type=int, default=3)
    quick.add_quick(parser, images=1, repeats=1)
    arguments = parser.parse_args()

    import jax

    from fexpr.models import build
    from fexpr.models.vggface import prepared
    from fexpr.models.weights import files, layouts

    model = build(f"vggface_{arguments.network}", num_classes=CLASSES)
    if arguments.network == "vgg16":
        keras = keras_faces.vgg16(
            224, model.widths, model.convolutions, classes=(*model.hidden, CLASSES)
        )
    else:
        keras = keras_faces.resnet50(
            224, model.width, model.blocks, classes=(*model.hidden, CLASSES)
        )
    keras_faces.randomised(keras)
    faces = (
        np.random.default_rng(0).integers(0, 256, (arguments.images, 48, 48, 1)).astype(np.float32)
    )
    like = jax.eval_shape(model.init, jax.random.key(0), faces[:1])
    with tempfile.TemporaryDirectory() as folder:
        variables, report = layouts.load(
            files.read(keras_faces.legacy_h5(Path(folder) / "weights.h5", keras)), model, like
        )
    print(f"{model.__class__.__name__}: {report.summary()}")
    ready = np.asarray(prepared(faces, 224, model.VERSION))
    apply = jax.jit(model.apply)
    sides = {
        "fexpr": lambda: np.asarray(apply(variables, faces)),
        "Keras": lambda: keras.predict(ready, len(ready), verbose=0),
    }
    answers = {name: side() for name, side in sides.items()}  # compiles
    scale = np.abs(answers["Keras"]).max()
    print(
        "largest difference of the logits "
        f"{np.abs(answers['fexpr'] - answers['Keras']).max():.2e}, of values up to {scale:.3g}"
    )
    seconds = {name: [] for name in sides}
    for _ in range(arguments.repeats):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - began)
    for name, passes in seconds.items():
        print(
            f"{name:6} {arguments.images / statistics.median(passes):7.2f} images/s   passes: "
            + " ".join(f"{s:.2f}" for s in passes)
        )


if __name__ == "__main__":
    main()
