"""Seconds of an epoch on 1, 2 and 4 devices that a CPU pretends to have, in 1, 2 and 4 local
processes; and what `--dry_run` says of them.

    # all three kinds of work; writes scale.json, prints a table
    python benchmarks/scale.py
    python benchmarks/scale.py --work=trials --network=htnet --folds=52 --repeats=5

`trials` is a leave-one-subject-out of a small network, whose trials are spread; `batch` one CNN
whose batch is spread; `streamed` the same with images from the disk. Each row is a job of its own.
It times a few steps as `--dry_run` does, and then trains epochs as a run does: the first is left
out, the median of the others is what was measured. The images are those of the MEGC2019 releases
under $FEXPR_DATA_DIR where there are any, else random ones.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks import quick  # noqa: E402

FEW = ((1, 1), (2, 1), (1, 2))  # devices of a process, processes
JOBS = {"trials": ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4)), "batch": FEW, "streamed": FEW}
EPOCHS = 1000  # that the recipe plans; few of them are run


def make_engine(arguments: argparse.Namespace):
    """The engine of a kind of work, on the devices of all processes."""
    import numpy as np

    from benchmarks import loso_task, streaming
    from fexpr import models
    from fexpr.data import records
    from fexpr.train import trials
    from fexpr.train.mesh import make_mesh
    from fexpr.train.state import make_recipe
    from fexpr.train.streamed_engine import StreamedEngine
    from fexpr.train.trial_tables import TrialSpec

    if arguments.work == "trials":
        images, labels, subjects = loso_task.data()
        model = models.build(
            arguments.network,
            num_classes=loso_task.CLASSES,
            **(loso_task.MODEL if arguments.network == "htnet" else {}),
        )
        config = {
            "train": {"loss": "cross_entropy", "batch_size": 32, "epochs": EPOCHS},
            "optimizer": {"name": "adam"},
        }
        recipe = make_recipe(config, model, "flow", multilabel=False)
        rows = np.arange(len(images))
        specs = [
            TrialSpec(np.setdiff1d(rows, test), rows[:0], test, fold=i)
            for i, test in enumerate(subjects[: arguments.folds])
        ]
        return trials.Engine(
            recipe, images, labels, loso_task.CLASSES, specs, make_mesh(len(specs), 32)
        )
    images, labels = streaming.data(arguments.rows + arguments.rows // 8)
    make, part = trials.Engine, {}
    if arguments.work == "streamed":
        ids = [str(i) for i in range(len(images))]
        records.write(
            Path(arguments.folder),
            ((ids[i : i + 1024], images[i : i + 1024]) for i in range(0, len(ids), 1024)),
        )
        images, make, part = (
            records.read(Path(arguments.folder))[1],
            StreamedEngine,
            {"part_bytes": 2**20},
        )
    config = {
        "train": {"loss": "cross_entropy", "batch_size": streaming.BATCH, "epochs": EPOCHS},
        "optimizer": {"name": "adam"},
        "augment": {"flip": 0.5, "shift": 2},
    }
    recipe = make_recipe(
        config,
        models.build("fer_cnn_simple", num_classes=streaming.CLASSES),
        "face",
        multilabel=False,
    )
    rows = np.arange(len(labels))
    spec = TrialSpec(rows[: arguments.rows], rows[:0], rows[arguments.rows :])
    return make(
        recipe,
        images,
        labels,
        streaming.CLASSES,
        [spec],
        make_mesh(1, streaming.BATCH),
        **part,
    )


def work(arguments: argparse.Namespace) -> None:
    """One process of a job: forecast and epochs as one line of JSON."""
    from fexpr.runs import forecast
    from fexpr.train import devices, distributed, resources

    devices.keep_compiled()
    if arguments.hosts:
        distributed.join(arguments.hosts)
    engine = make_engine(arguments)
    predicted = forecast.measure(engine, EPOCHS)
    engine.load(0)
    state, seconds, input_wait = engine.init(), [], []
    for _ in range(arguments.repeats + 1):
        began = time.monotonic()
        state, scalars = engine.epoch(state)
        engine.to_host((scalars, state.failed_step))
        distributed.all_gather_scalars([0.0, 0.0, 0.0])
        seconds.append(time.monotonic() - began)
        input_wait.append(engine.input_wait_seconds)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "input_wait": input_wait,
                "forecast": predicted._asdict(),
                "peaks": resources.peaks(),
            }
        ),
        flush=True,
    )


def run_job(
    arguments: argparse.Namespace, kind: str, devices: int, processes: int, folder: str
) -> dict:
    """What process 0 of the job prints."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    started = []
    for rank in range(processes):
        command = [
            sys.executable,
            __file__,
            "--worker",
            f"--work={kind}",
            f"--network={arguments.network}",
            f"--folds={arguments.folds}",
            f"--rows={arguments.rows}",
            f"--repeats={arguments.repeats}",
            f"--folder={folder}/{kind}_{devices}_{processes}_{rank}",
        ]
        command += [f"--hosts=localhost:{port},{rank},{processes}"] if processes > 1 else []
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(
            f"{kind} on {devices} devices in {processes} processes ended with "
            f"{[p.returncode for p in started]}"
        )
    return json.loads(
        next(line for line in outputs[0].splitlines() if line.startswith('{"seconds"'))
    )


def check(arguments: argparse.Namespace) -> None:
    kinds, rows = JOBS if arguments.work == "all" else (arguments.work,), []
    about = (
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the start"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            for devices, processes in JOBS[kind]:
                job = run_job(arguments, kind, devices, processes, folder)
                job |= {"kind": kind, "devices": devices, "processes": processes}
                rows.append(job | {"measured": statistics.median(job["seconds"][1:])})
                print(
                    f"{kind}, {devices} devices, {processes} processes: "
                    f"{rows[-1]['measured']:.3f} s",
                    file=sys.stderr,
                    flush=True,
                )
    Path(arguments.out).write_text(
        json.dumps({"about": about, "command": sys.argv, "jobs": rows}, indent=1)
    )
    print(
        f"{about}; median of {arguments.repeats} epochs (range); every epoch in {arguments.out}\n"
    )
    print("| work | processes x devices | measured, s an epoch | predicted | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for job in rows:
        epochs, middle, predicted = job["seconds"][1:], job["measured"], job["forecast"]["epoch"]
        print(
            f"| {job['kind']} | {job['processes']} x {job['devices']} | {middle:.3f} "
            f"({min(epochs):.3f}–{max(epochs):.3f}) "
            f"| {predicted:.3f} | {predicted / middle:.2f} |"
        )
    print("\nratio = predicted / measured")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=("all", *JOBS), default="all")
    parser.add_argument(
        "--network", choices=("ststnet", "htnet"), default="ststnet", help="of the trials"
    )
    parser.add_argument("--folds", type=int, default=16, help="of the trials")
    parser.add_argument("--rows", type=int, default=2560, help="images that the CNN trains on")
    parser.add_argument("--repeats", type=int, default=5, help="epochs that are measured")
    parser.add_argument("--out", default="scale.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hosts", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    quick.add_quick(parser, work="batch", rows=256, repeats=1)
    given = parser.parse_args()
    work(given) if given.worker else check(given)
