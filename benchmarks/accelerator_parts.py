"""The parts of benchmarks/accelerator.py. Each is given the arguments and `record(name,
**figures)`, and leaves one line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import sides

ROOT = Path(__file__).parents[1]
# FLOP/s of dense bfloat16 products that an H100 or H200 is taken to reach; the part `device`
# measures its own
PEAK = 790e12
CONFIG = "configs/resnet_fer2013.py"


def resnet(arguments: argparse.Namespace, record: Callable) -> None:
    """Five seeds through launch.py, their epochs recorded while they train; then the result, and
    the ensemble.
    """
    record("machine", **machine())
    run_dir = arguments.out / "resnet"
    variant = "debug" if arguments.quick else "seeds"
    epochs = 2 if arguments.quick else arguments.epochs
    # no stop inside: what a kill loses, the curve keeps; a checkpoint of five networks would hold
    # the device up
    words = [
        "launch.py",
        f"--config={CONFIG}:{variant}",
        f"--workdir={run_dir}",
        f"--config.train.epochs={epochs}",
        "--config.log.tensorboard=False",
        "--config.log.checkpoint_seconds=120",
    ]
    words += ["--config.split.seeds=2"] if arguments.quick else []
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment(arguments), stdin=subprocess.DEVNULL
    )
    seen = 0
    while process.poll() is None or seen < len(history(run_dir)):
        rows = history(run_dir)
        for row in rows[seen:]:
            figures = {
                k: row[k] for k in ("train_loss", "val_loss", "val_accuracy", "seconds") if k in row
            }
            record(
                f"epoch {row['epoch']}", since_start=round(time.monotonic() - began, 1), **figures
            )
        seen = len(rows)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"launch.py: exit code {process.returncode}")
    config, metrics = (
        json.loads((run_dir / name).read_text()) for name in ("config.json", "metrics.json")
    )
    seconds = [row["seconds"] for row in history(run_dir)]
    trials = len(metrics["seeds"])
    images = config["data"]["parts"]["train"]["rows"] * trials
    record(
        "training",
        source=config["data"]["source"],
        trials=trials,
        parameters=config["model"]["parameters"],
        epochs=len(seconds),
        compile_seconds=config["resources"]["compile_seconds"],
        epoch_seconds=statistics.median(seconds),
        images_per_second=images / statistics.median(seconds),
        wall_seconds=round(time.monotonic() - began, 1),
    )
    record(
        "single, mean of the seeds",
        **accuracy(metrics, "test"),
        val=metrics["val"]["accuracy"]["value"],
    )
    record("ensemble", **accuracy(metrics, "ensemble"))


def accuracy(metrics: dict, of: str) -> dict:
    """Accuracy on the test rows with its interval, by seed where there are several; `of`: 'test' or
    'ensemble'.
    """
    m = metrics[of]["accuracy"]
    shown = {k: m[k] for k in ("value", "low", "high", "seeds", "seed_std") if k in m}
    return {
        "on": " and ".join(metrics["datasets"].get("test", [])),
        **shown,
        "ece": metrics[of]["ece"]["value"],
    }


def cnn(arguments: argparse.Namespace, record: Callable) -> None:
    """Epochs of seed-size CNNs; the sides of benchmarks/fer2013.py."""
    on = device()
    script = str(ROOT / "benchmarks" / "fer2013.py")
    for network in ("pytorch", "thesis"):
        common = [
            script,
            f"--network={network}",
            f"--device={on}",
            f"--steps={2 if arguments.quick else 0}",
            "--torch-data=tensor",
            "--torch-format=channels_last",
            f"--precision={'float32' if arguments.quick else 'bfloat16'}",
        ]
        commands = {"fexpr": [*common, "--side=fexpr"], "torch eager": [*common, "--side=torch"]}
        if not arguments.quick:
            commands["torch compiled"] = [*common, "--side=torch", "--torch-compile"]
        race(network, commands, 1 if arguments.quick else 5, record)


def loso(arguments: argparse.Namespace, record: Callable) -> None:
    """Leave one subject out: all trials as one program, against PyTorch. `warm_seconds` are those
    of one trial's epoch.
    """
    from benchmarks.accelerator_sides import SIZES, TINY

    on = "cuda" if device() == "gpu" else "cpu"
    for network in ("ststnet", "htnet"):
        commands = {
            name: [
                "-m",
                "benchmarks.accelerator_sides",
                f"--network={network}",
                f"--side={name}",
                f"--device={on}",
            ]
            + ["--tiny"] * arguments.quick
            for name in SIZES
            if on == "cuda" or not name.endswith("graph")
        }
        units = [np.prod(TINY if arguments.quick else SIZES[name]) for name in commands]
        race(network, commands, 1 if arguments.quick else 3, record, units)


def race(
    what: str,
    commands: dict[str, Sequence[str]],
    repeats: int,
    record: Callable,
    units: Sequence[float] = (),
) -> None:
    """Cold passes of all sides at once (they mostly compile), then warm ones in turn; a line a
    side, with its paired ratio to the first.

    Args:
      units: how much of the work each side does in a pass, where that differs.
    """
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several processes share the device
    workers = {name: sides.Side(name, words) for name, words in commands.items()}
    share = dict(zip(commands, units or [1.0] * len(commands), strict=True))
    with ThreadPoolExecutor(len(workers)) as pool:
        alive = [
            name
            for name, good in zip(workers, pool.map(_goes, workers.values()), strict=True)
            if good
        ]
    for _ in range(repeats):
        for name in alive:
            workers[name].go()
    first = next(iter(commands))
    for name, side in workers.items():
        side.close()
        if name not in alive:
            record(f"{what}: {name}", failed="ended without an answer; see the log")
            continue
        warm = [p["seconds"] / share[name] for p in side.passes[1:]]
        ratios = [
            s / (p["seconds"] / share[first])
            for s, p in zip(warm, workers[first].passes[1:], strict=False)
        ]
        compared = (
            {
                "ratio": statistics.median(ratios),
                "ratios": [round(min(ratios), 2), round(max(ratios), 2)],
            }
            if ratios
            else {}
        )
        record(
            f"{what}: {name}",
            cold_seconds=side.passes[0]["seconds"],
            warm_seconds=statistics.median(warm),
            **compared,
            about=side.passes[0]["about"],
        )


def _goes(side: sides.Side) -> bool:
    try:
        side.go()
    except (SystemExit, BrokenPipeError):
        return False
    return True


def on_device(arguments: argparse.Namespace, record: Callable) -> None:
    """What a dispatch costs, how full the device is, how trials are best laid out."""
    import jax
    import jax.numpy as jnp

    record("machine", **machine())
    x, add = jnp.zeros(8), jax.jit(lambda x: x + 1)
    record(
        "dispatch",
        asynchronous_us=1e6 * seconds_of(lambda: add(x), 1000),
        blocking_us=1e6 * seconds_of(lambda: jax.block_until_ready(add(x)), 200),
    )
    n = 512 if arguments.quick else 8192
    a = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)
    product = jax.jit(lambda a: a @ a)
    rate = 2 * n**3 / seconds_of(lambda: product(a), 10)
    record("product in bfloat16", side=n, tflops=rate / 1e12, share_of_peak=rate / PEAK)
    from benchmarks import accelerator_engines as engines

    for name, make in engines.ENGINES.items():
        engine, images = make(arguments.quick)
        began = time.monotonic()
        plan = engine.compile()
        compiled = time.monotonic() - began
        engine.load(0)
        state, _ = engine.epoch(engine.init())
        jax.block_until_ready(state)
        times = []
        for _ in range(1 if arguments.quick else 3):
            began = time.monotonic()
            state, _ = engine.epoch(state)
            jax.block_until_ready(state)
            times.append(time.monotonic() - began)
        spent, flops = statistics.median(times), engines.training_flops(engine) * images
        record(
            name,
            compile_seconds=compiled,
            epoch_seconds=spent,
            step_ms=1e3 * spent / engine.steps,
            images_per_second=images / spent,
            tflops=flops / spent / 1e12,
            share_of_peak=flops / spent / PEAK,
            program_gib=plan.bytes_needed / 2**30,
        )
        del engine, state


def seconds_of(function: Callable, repeats: int) -> float:
    """Seconds of a call, of so many one after the other, the first left out."""
    import jax

    jax.block_until_ready(function())
    began = time.perf_counter()
    for _ in range(repeats):
        last = function()
    jax.block_until_ready(last)
    return (time.perf_counter() - began) / repeats


def recognizer(arguments: argparse.Namespace, record: Callable) -> None:
    """The restored run of part resnet: one network, and all five as an ensemble."""
    run_dir = arguments.out / "resnet"
    if not (run_dir / "metrics.json").exists():
        raise SystemExit("part resnet left no finished run")
    began = time.monotonic()
    from fexpr import Recognizer

    imported = time.monotonic()
    images = np.random.default_rng(0).integers(
        0, 256, (64 if arguments.quick else 20_000, 48, 48, 1), np.uint8
    )
    for name, trial in (("one network", 0), ("ensemble", None)):
        started = time.monotonic()
        restored = Recognizer.restore(run_dir, trial=trial, batch=16 if arguments.quick else 512)
        ready = time.monotonic()
        restored.probabilities(images[:1])
        first = time.monotonic()
        spent = seconds_of(lambda restored=restored: restored.probabilities(images), 1)
        record(
            name,
            import_seconds=imported - began,
            restore_seconds=ready - started,
            first_seconds=first - ready,
            images_per_second=len(images) / spent,
        )


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    """With the data, and a cache of prepared sets and compiled programs beside the results."""
    env = {**os.environ, "FEXPR_CACHE_DIR": str(arguments.out / "cache")}
    return env | ({"FEXPR_DATA_DIR": str(arguments.data)} if arguments.data else {})


def history(run_dir: Path) -> list[dict]:
    """The whole lines of metrics.jsonl so far."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def machine() -> dict:
    import jax

    d = jax.devices()[0]
    return {
        "device": d.device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "cpu_cores": os.cpu_count(),
    }


def device() -> str:
    """'gpu' or 'cpu', asked in another process: this one keeps off the device."""
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return (
        "cpu"
        if subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[-1]
        == "cpu"
        else "gpu"
    )


PARTS = {"resnet": resnet, "cnn": cnn, "loso": loso, "device": on_device, "recognizer": recognizer}
