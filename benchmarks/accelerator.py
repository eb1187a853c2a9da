"""What a GPU does with fexpr, in minutes: accuracy on FER2013, speed against PyTorch, how full the
device is.

    python -m benchmarks.accelerator --minutes=9 --data=DIR --out=accelerator

One table and accelerator.json in --out, in which every figure is written as soon as it is known:
cut it off at any moment. Each part is a process of its own with its own share of the minutes, the
most important first:

  resnet      configs/resnet_fer2013.py:seeds: five seeds as one program. Seconds per epoch, the
              curve, PublicTest, the ensemble.
  cnn         an epoch of two CNNs with augmentation against PyTorch (channels_last, bfloat16,
              resident batches; eager and compiled)
  loso        leave one subject out, 52 folds x 5 seeds, of STSTNet and HTNet against a PyTorch loop
              and against torch.func's vmap
  device      a dispatch's overhead, compile seconds, share of peak, `vmap` against `map` over
              trials, memory
  recognizer  images a second of the restored network

--quick makes every part tiny: the test on a CPU. --data holds fer2013/ (docs/data.md); without it
the faces are synthetic, the times are right and the accuracies mean nothing. PyTorch is needed for
the peers alone; without it they are left out, and the table says so.

For a machine without a package index, gather what it lacks beforehand, for its Python (here 3.12)
and platform, and carry it with the checkout and the folder of data:

    pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_24_x86_64 \\
        --platform manylinux2014_x86_64 -d wheels \\
        ml-collections tensorflow-datasets array-record dm-tree docstring-parser et-xmlfile \\
        googleapis-common-protos idna immutabledict charset-normalizer importlib-resources \\
        jaxtyping openpyxl requests simple-parsing tensorboardX tensorflow-metadata termcolor \\
        toml wadler-lindig
    pip wheel --no-deps -w wheels promise
    # there:
    pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

# shares of the time
PARTS = {"resnet": 0.62, "cnn": 0.14, "loso": 0.12, "device": 0.07, "recognizer": 0.05}
RESULT = "accelerator.json"


class Record:
    """A part's figures: one JSON object per line, on the disk before the next one is measured."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, name: str, **values) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            print(json.dumps({"name": name, **values}), file=file)


def run_part(name: str, arguments: argparse.Namespace) -> None:
    """In the part's own process."""
    from benchmarks import accelerator_parts

    accelerator_parts.PARTS[name](arguments, Record(arguments.out / f"{name}.jsonl"))


def run_all(arguments: argparse.Namespace) -> None:
    """Starts the parts one after the other; what is left of a part's time goes to those after
    it.
    """
    arguments.out.mkdir(parents=True, exist_ok=True)
    end, ended = time.monotonic() + 60 * arguments.minutes, {}
    parts = [name for name in PARTS if name in (arguments.only or PARTS)]
    for i, name in enumerate(parts):
        (arguments.out / f"{name}.jsonl").unlink(missing_ok=True)
        left = end - time.monotonic()
        share = PARTS[name] / sum(PARTS[later] for later in parts[i:])
        ended[name] = limited(
            [*command(arguments), f"--part={name}"], left * share, arguments.out / f"{name}.log"
        )
        write(arguments.out, ended, parts)
    print(table(json.loads((arguments.out / RESULT).read_text())))


def command(arguments: argparse.Namespace) -> list[str]:
    given = [
        sys.executable,
        "-m",
        "benchmarks.accelerator",
        f"--out={arguments.out}",
        f"--epochs={arguments.epochs}",
    ]
    given += [f"--data={arguments.data}"] if arguments.data else []
    return given + ["--quick"] * arguments.quick


def limited(words: list[str], seconds: float, log: Path) -> dict:
    """Runs a command for so long at most, with all that it started; how it ended."""
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as out:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            code = "out of time"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started itself goes with it
        process.wait()
    return {
        "ended": "done" if code == 0 else f"exit code {code}" if isinstance(code, int) else code,
        "seconds": round(time.monotonic() - began, 1),
        "limit": round(seconds, 1),
    }


def write(out: Path, ended: dict[str, dict], parts: list[str]) -> None:
    """accelerator.json of what the parts have left so far."""
    figures = {}
    for name in parts:
        path = out / f"{name}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        figures[name] = [json.loads(line) for line in lines if line.endswith("}")]
    staged = out / f"{RESULT}.part"
    staged.write_text(json.dumps({"parts": ended, "figures": figures}, indent=1), encoding="utf-8")
    staged.replace(out / RESULT)


def table(result: dict) -> str:
    """All figures, a line each."""
    lines = []
    for part, rows in result["figures"].items():
        state = result["parts"].get(part, {"ended": "not started", "seconds": 0})
        lines.append(f"\n{part}: {state['ended']} after {state['seconds']:.0f} s")
        for row in rows:
            values = [
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                for k, v in row.items()
                if k != "name"
            ]
            lines.append(f"  {row['name']:<44}" + "  ".join(values))
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--minutes", type=float, default=9.0, help="all parts together")
    p.add_argument("--data", type=Path, help="folder that holds fer2013/")
    p.add_argument("--out", type=Path, default=Path("accelerator"), help="where the results go")
    p.add_argument("--epochs", type=int, default=60, help="of resnet_fer2013:seeds")
    p.add_argument(
        "--only", type=lambda text: text.split(","), help=f"some parts alone, of {','.join(PARTS)}"
    )
    p.add_argument("--quick", action="store_true", help="everything tiny, as a test")
    p.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    return p


if __name__ == "__main__":
    given = parser().parse_args()
    given.out = given.out.absolute()
    given.data = given.data and given.data.absolute()
    run_part(given.part, given) if given.part else run_all(given)
