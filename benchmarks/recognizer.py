"""A restored run: from import to the first prediction in a fresh process, its memory, and images a
second against PyTorch or onnxruntime.

    pip install -r requirements.txt -r benchmarks/requirements.txt
    python benchmarks/recognizer.py runs/cnn_thesis_fer2013
    # pip install jax2onnx onnxruntime
    python benchmarks/recognizer.py runs/cnn_thesis_fer2013 --peer=onnxruntime --batch=1

The first part starts a new Python three times: with an empty cache of compiled programs, and twice
with the one that this leaves. The second alternates passes over the same random pixels, each side
in a process of its own; PyTorch runs the network of benchmarks/torch_fer2013.py, which the run must
be of (its weights do not matter for time); the ONNX one is exported from the run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import quick, sides  # noqa: E402

START = """
import json, sys, time
began = time.perf_counter()
from fexpr import Recognizer
imported = time.perf_counter()
restored = Recognizer.restore(sys.argv[1], trial=0, batch=int(sys.argv[2]))
ready = time.perf_counter()
import numpy as np
restored.predict(np.zeros((1, *restored.shape), restored.dtype))
done = time.perf_counter()
pages = int(open("/proc/self/statm").read().split()[1])
import resource
print(json.dumps({"import": imported - began, "restore": ready - imported, "predict": done - ready,
                  "total": done - began, "resident": pages * resource.getpagesize() / 2**20}))
"""


def start(run_dir: Path, batch: int, cache: str) -> dict:
    """Seconds of each step in a new process, and its resident size in MB."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", START, str(run_dir), str(batch)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48, 1), np.uint8)


def fexpr_pass(arguments: argparse.Namespace):
    """A function that predicts all images once more."""
    import jax

    from fexpr import Recognizer

    restored, images = (
        Recognizer.restore(arguments.run_dir, trial=0, batch=arguments.batch),
        pixels(arguments.images),
    )
    return lambda: restored.probabilities(
        images
    ), f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}"


def torch_pass(arguments: argparse.Namespace):
    """A function that predicts all images once more."""
    import torch

    from benchmarks.torch_fer2013 import NETWORKS

    config = json.loads((arguments.run_dir / "config.json").read_text())
    network, images = (
        NETWORKS[config["model"]["name"].removeprefix("fer_cnn_")]().eval(),
        pixels(arguments.images),
    )
    layout = (
        torch.channels_last
        if arguments.torch_format == "channels_last"
        else torch.contiguous_format
    )
    network = network.to(memory_format=layout)

    def run() -> None:
        with torch.inference_mode():
            for first in range(0, len(images), arguments.batch):
                part = torch.from_numpy(images[first : first + arguments.batch]).permute(0, 3, 1, 2)
                torch.softmax(
                    network(part.to(torch.float32, memory_format=layout) / 255), dim=1
                ).numpy()

    return (
        run,
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.torch_format}",
    )


def onnxruntime_pass(arguments: argparse.Namespace):
    """A function that predicts all images once more."""
    import onnxruntime

    from fexpr import Recognizer
    from fexpr.recognizer.programs import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        write_onnx(Recognizer.restore(arguments.run_dir, trial=0), Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(
            str(Path(folder) / "model.onnx"), providers=["CPUExecutionProvider"]
        )
    images = pixels(arguments.images)

    def run() -> None:
        for first in range(0, len(images), arguments.batch):
            session.run(
                None, {"images": images[first : first + arguments.batch].astype(np.float32)}
            )

    return run, f"onnxruntime {onnxruntime.__version__}"


SIDES = {"fexpr": fexpr_pass, "torch": torch_pass, "onnxruntime": onnxruntime_pass}


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as cache:
        print(
            f"{'':22}{'import s':>9}{'restore s':>10}{'predict s':>10}{'total s':>9}"
            f"{'resident MB':>13}"
        )
        for name in ("empty cache", "with the cache", "with the cache, again"):
            found = start(arguments.run_dir, arguments.batch, cache)
            print(
                f"{name:22}{found['import']:9.2f}{found['restore']:10.2f}{found['predict']:10.2f}{found['total']:9.2f}"
                f"{found['resident']:13.0f}"
            )
    passed = [
        str(arguments.run_dir),
        *(
            f"--{n.replace('_', '-')}={getattr(arguments, n)}"
            for n in ("images", "batch", "torch_format")
        ),
    ]
    ours = sides.Side("fexpr", [__file__, *passed, "--side=fexpr"])
    peer = sides.peer_side(
        arguments.peer, arguments.peer, [__file__, *passed, f"--side={arguments.peer}"]
    )
    sides.compare(
        ours,
        peer,
        arguments.repeats,
        f"{arguments.run_dir.name}, {arguments.images} images, batch {arguments.batch}",
        arguments.images,
        "images",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run_dir",
        metavar="RUN",
        type=Path,
        help="finished run of cnn_thesis_fer2013 or cnn_pytorch_fer2013",
    )
    parser.add_argument("--peer", choices=("torch", "onnxruntime"), default="torch")
    parser.add_argument("--images", type=int, default=2048, help="images per pass")
    parser.add_argument("--batch", type=int, default=16, help="images per forward pass")
    parser.add_argument(
        "--torch-format",
        choices=("contiguous", "channels_last"),
        default="contiguous",
        help="its memory format",
    )
    parser.add_argument("--repeats", type=int, default=5, help="warm passes of each side")
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    quick.add_quick(parser, images=16, batch=8, repeats=1)
    given = parser.parse_args()
    if given.side:
        sides.work(lambda: SIDES[given.side](given))
    else:
        main(given)
