"""What the Ray engine costs, and how soon a killed run goes on.

    # twelve short programs: local against Ray on this machine
    python benchmarks/engines.py
    # kill -9 inside training, then the same command: seconds to the next epoch
    python benchmarks/engines.py --resume

Synthetic data, a logistic model and few epochs: nearly all of the time is what an engine adds.
Every pass is a process of its own; the compiled programs are cached by a pass that is not counted.
A program is one trial here, whose batch the local engine shares out over the cores; a Ray task has
one, so logits differ by rounding.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks import quick  # noqa: E402
from fexpr.storage import run  # noqa: E402

SMALL = (
    "--config.model.name=logistic",
    "--config.evaluate.resamples=10",
    "--config.log.tensorboard=False",
)
CONFIG = f"--config={ROOT}/configs/aucnn_samm.py:debug"


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "launch.py"), CONFIG, *SMALL, *arguments]


def seconds_of(workdir: Path, *arguments: str) -> float:
    """A whole command, in a run directory that is removed first."""
    shutil.rmtree(workdir, ignore_errors=True)
    began = time.monotonic()
    subprocess.run(
        command(f"--workdir={workdir}", *arguments),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def compare(folder: Path, programs: int, repeats: int, epochs: int) -> None:
    sweep = (
        "--sweep=train.batch_size=" + ",".join(str(4 * i) for i in range(1, programs + 1)),
        f"--config.train.epochs={epochs}",
    )
    engines = {"local": (), "ray": ("--engine=ray",)}
    for arguments in engines.values():
        seconds_of(folder / "warm", *sweep, *arguments)
    found = {name: [] for name in engines}
    for i in range(repeats):
        for name in list(engines) if i % 2 == 0 else list(engines)[::-1]:
            found[name].append(seconds_of(folder / name, *sweep, *engines[name]))
        print(
            "  ".join(f"{name} {seconds[-1]:.1f} s" for name, seconds in found.items()), flush=True
        )
    logits = [
        [
            run.read_arrays(folder / name / f"batch_size={4 * i}" / run.PREDICTIONS)["logits"]
            for i in range(1, programs + 1)
        ]
        for name in engines
    ]
    apart = np.abs(np.subtract(*logits)).max()
    pairs = [b / a for a, b in zip(*found.values(), strict=True)]
    medians = ", ".join(
        f"{name} {statistics.median(seconds):.1f} s" for name, seconds in found.items()
    )
    print(
        f"{programs} programs of {epochs} epochs, {os.cpu_count()} cores, medians of "
        f"{repeats}: {medians}; "
        f"ray / local {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f}); "
        f"logits at most {apart:.1e} apart"
    )


def resume(folder: Path, repeats: int) -> None:
    """Seconds from the command to its first epoch, fresh and after a kill -9. metrics.jsonl is
    taken away before, to see a new row.
    """
    workdir, found = folder / "run", []
    for _ in range(repeats + 1):
        (workdir / run.HISTORY).unlink(missing_ok=True)
        began = time.monotonic()
        process = subprocess.Popen(
            command(
                f"--workdir={workdir}",
                "--config.train.epochs=100000",
                "--config.log.checkpoint_seconds=1",
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not run.read_history(workdir):
            if process.poll() is not None:
                raise SystemExit("the run ended before it could be killed")
            time.sleep(0.01)
        found.append(time.monotonic() - began)
        time.sleep(4)  # past some checkpoints
        process.kill()
        process.wait()
    fresh, *resumed = found
    print(
        f"from the command to its first epoch: {fresh:.1f} s fresh, after kill -9 "
        f"{statistics.median(resumed):.1f} s "
        f"({min(resumed):.1f} to {max(resumed):.1f}), median of {repeats}"
    )


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--programs", type=int, default=12)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--resume", action="store_true")
    quick.add_quick(p, programs=2, repeats=1, epochs=1)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        resume(Path(folder), args.repeats) if args.resume else compare(
            Path(folder), args.programs, args.repeats, args.epochs
        )


if __name__ == "__main__":
    main()
