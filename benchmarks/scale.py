"""What the model of cost predicts, against what is measured: 1, 2 and 4 devices that a CPU pretends to have, 1, 2 and 4 local processes.

    python benchmarks/scale.py                     # all three kinds of work; writes scale.json, prints tables as docs/scale.md has them
    python benchmarks/scale.py --work=trials --network=htnet --folds=52 --repeats=5
    python benchmarks/scale.py --gpus              # predictions for the three real workloads on 10, 100, 1000 GPUs, from assumed constants

`trials` is a leave-one-subject-out of a small network, whose trials are spread; `batch` one CNN whose batch is spread; `streamed` the same
with images from the disk. Each row is a job of its own. It times a few steps as `--dry_run` does, predicts, and then trains epochs as a run
does: the first is left out, the median of the others is what was measured. `itself` is predicted from the job's own constants, `from one`
from those of the job with one device: how well the model scales. The images are those of the MEGC2019 releases under $FEXPR_DATA_DIR where
there are any, else random ones.
"""

from __future__ import annotations

import argparse
import dataclasses
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

FEW = ((1, 1), (2, 1), (1, 2))  # devices of a process, processes; the first is what the others are predicted from
JOBS = {"trials": ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4)), "batch": FEW, "streamed": FEW}
EPOCHS = 1000  # that the recipe plans; few of them are run


def make_engine(arguments: argparse.Namespace):
    """The engine of a kind of work, on the devices of all processes."""
    import numpy as np

    from benchmarks import loso_task, streaming
    from fexpr import models
    from fexpr.data import records
    from fexpr.train import trials
    from fexpr.train.state import make_recipe
    from fexpr.train.streaming import StreamedEngine

    if arguments.work == "trials":
        images, labels, subjects = loso_task.data()
        model = models.build(arguments.network, num_classes=loso_task.CLASSES, **(loso_task.MODEL if arguments.network == "htnet" else {}))
        config = {"train": {"loss": "cross_entropy", "batch_size": 32, "epochs": EPOCHS}, "optimizer": {"name": "adam"}}
        recipe = make_recipe(config, model, "flow", multilabel=False)
        rows = np.arange(len(images))
        specs = [trials.TrialSpec(np.setdiff1d(rows, test), rows[:0], test, fold=i) for i, test in enumerate(subjects[: arguments.folds])]
        return trials.Engine(recipe, images, labels, loso_task.CLASSES, specs, trials.make_mesh(len(specs), 32))
    images, labels = streaming.data(arguments.rows + arguments.rows // 8)
    make, part = trials.Engine, {}
    if arguments.work == "streamed":
        ids = [str(i) for i in range(len(images))]
        records.write(Path(arguments.folder), ((ids[i : i + 1024], images[i : i + 1024]) for i in range(0, len(ids), 1024)))
        images, make, part = records.read(Path(arguments.folder))[1], StreamedEngine, {"part_bytes": 2**20}
    config = {"train": {"loss": "cross_entropy", "batch_size": streaming.BATCH, "epochs": EPOCHS},
              "optimizer": {"name": "adam"}, "augment": {"flip": 0.5, "shift": 2}}
    recipe = make_recipe(config, models.build("fer_cnn_simple", num_classes=streaming.CLASSES), "face", multilabel=False)
    rows = np.arange(len(labels))
    spec = trials.TrialSpec(rows[: arguments.rows], rows[:0], rows[arguments.rows :])
    return make(recipe, images, labels, streaming.CLASSES, [spec], trials.make_mesh(1, streaming.BATCH), **part)


def work(arguments: argparse.Namespace) -> None:
    """One process of a job: constants, prediction and epochs as one line of JSON."""
    from fexpr.runs import cost_model, forecast, step_timing
    from fexpr.train import devices, distributed, resources

    devices.keep_compiled()
    if arguments.hosts:
        distributed.join(arguments.hosts)
    engine = make_engine(arguments)
    task, constants = forecast.work_of(engine, EPOCHS, 1e9), step_timing.measured(engine)
    engine.load(0)
    state, seconds, waited = engine.init(), [], []
    for _ in range(arguments.repeats + 1):
        began = time.monotonic()
        state, scalars = engine.epoch(state)
        engine.to_host((scalars, state.failed_step))
        distributed.all_gather_scalars([0.0, 0.0, 0.0])
        seconds.append(time.monotonic() - began)
        waited.append(engine.input_wait_seconds)
    predicted = cost_model.predict(task, constants, forecast.here())
    print(json.dumps({
        "work": dataclasses.asdict(task), "constants": constants._asdict(), "machine": dataclasses.asdict(forecast.here()),
        "seconds": seconds, "waited": waited, "predicted": predicted.epoch, "moved": predicted.moved, "peaks": resources.peaks(),
    }), flush=True)


def run_job(arguments: argparse.Namespace, kind: str, devices: int, processes: int, folder: str) -> dict:
    """What process 0 of the job has to say."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = []
    for rank in range(processes):
        command = [sys.executable, __file__, "--worker", f"--work={kind}", f"--network={arguments.network}", f"--folds={arguments.folds}",
                   f"--rows={arguments.rows}", f"--repeats={arguments.repeats}", f"--folder={folder}/{kind}_{devices}_{processes}_{rank}"]
        command += [f"--hosts=localhost:{port},{rank},{processes}"] if processes > 1 else []
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{kind} on {devices} devices in {processes} processes ended with {[p.returncode for p in started]}")
    return json.loads(next(line for line in said[0].splitlines() if line.startswith('{"work"')))


def check(arguments: argparse.Namespace) -> None:
    from fexpr.runs.cost_model import Machine, Work, predict
    from fexpr.runs.step_timing import Measured

    kinds, rows = JOBS if arguments.work == "all" else (arguments.work,), []
    about = f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            one = None
            for devices, processes in JOBS[kind]:
                job = run_job(arguments, kind, devices, processes, folder)
                one = one or job
                job["from_one"] = predict(Work(**one["work"]), Measured(**one["constants"]), Machine(**job["machine"])).epoch
                job |= {"kind": kind, "devices": devices, "processes": processes, "measured": statistics.median(job["seconds"][1:])}
                rows.append(job)
                print(f"{kind}, {devices} devices, {processes} processes: {job['measured']:.3f} s", file=sys.stderr, flush=True)
    Path(arguments.out).write_text(json.dumps({"about": about, "command": sys.argv, "jobs": rows}, indent=1))
    print(f"{about}; median of {arguments.repeats} epochs (range); constants and every epoch in {arguments.out}\n")
    print("| work | processes x devices | measured, s an epoch | itself | ratio | from one | ratio | all-reduce | images read |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for job in rows:
        epochs, middle = job["seconds"][1:], job["measured"]
        predicted = [f"{job[name]:.3f} | {job[name] / middle:.2f}" for name in ("predicted", "from_one")]
        moved = [f"{job['moved'][name] / 2**20:.2f} MiB" if job["moved"][name] else "–" for name in ("all-reduce", "images")]
        print("| " + " | ".join([job["kind"], f"{job['processes']} x {job['devices']}",
                                 f"{middle:.3f} ({min(epochs):.3f}–{max(epochs):.3f})", *predicted, *moved]) + " |")
    print("\nbytes are those of an epoch and host, a host being a process; ratio = predicted / measured")


def gpus() -> None:
    """The three real workloads by assumed constants: nothing of this was measured on a GPU."""
    from fexpr.evaluate.report.run_report import duration
    from fexpr.runs.cost_model import Machine, Work, table
    from fexpr.runs.step_timing import Measured

    gib, rest = 2**30, {"devices": 1, "evaluation": 0.0, "compile": 60.0, "dispatch": 2e-3, "fetch": 5e9}
    # parameters and GFLOP a row are those of the networks here; assumed: 1 TFLOP/s for small ones in float32, 50 for the VGG in bfloat16,
    # 2 to 3 ms of small kernels a step, 60 s of compiling, and that a host reads 500 MB of images a second
    cases = {
        "MEGC2019 leave-one-subject-out, notebook-size HTNet, 340 trials, 30 epochs": (
            Work(trials=340, epochs=30, steps=11, parts=1, batch=32, spread=False, streamed=0, part=0, reduced=0, state=4 * 4 * 579_595,
                 resident=10**6, needed=30 * gib, fit=800, interval=20.0),
            Measured(load=340, fixed=3e-3, per_unit=32 * 0.0265e9 / 1e12, **rest | {"evaluation": 2.0})),
        "FER2013, vgg_fer, one trial, 200 epochs, batch 128": (
            Work(trials=1, epochs=200, steps=202, parts=1, batch=128, spread=True, streamed=0, part=0, reduced=4 * (7_051_463 + 2 * 3_840),
                 state=4 * 4 * 7_051_463, resident=83 * 10**6, needed=4 * gib, fit=1, interval=20.0),
            Measured(load=128, fixed=2e-3, per_unit=2.14e9 / 50e12, **rest | {"evaluation": 200.0})),
        "the same, batch 4,096": (
            Work(trials=1, epochs=200, steps=7, parts=1, batch=4096, spread=True, streamed=0, part=0, reduced=4 * (7_051_463 + 2 * 3_840),
                 state=4 * 4 * 7_051_463, resident=83 * 10**6, needed=60 * gib, fit=1, interval=20.0),
            Measured(load=4096, fixed=2e-3, per_unit=2.14e9 / 50e12, **rest | {"evaluation": 7.0})),
        "AffectNet from the disk, Deep-Emotion with saliency, 100 epochs, batch 1,024": (
            Work(trials=1, epochs=100, steps=250, parts=36, batch=1024, spread=True, streamed=(256_000 + 31_890) * 4608, part=32 * 2**20,
                 reduced=4 * 66_877, state=4 * 4 * 66_877, resident=2 * 10**6, needed=2 * gib, fit=1, interval=20.0),
            Measured(load=1024, fixed=3e-3, per_unit=0.0163e9 / 1e12, read=500e6, **rest | {"evaluation": 10.0})),
    }
    for name, (task, constants) in cases.items():
        print(f"\n{name}\n")
        print("| GPUs | time | efficiency | used | most of the time goes to | then to | all-reduce, a host and epoch |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        machines = [Machine(n, 8) for n in (1, 8, 10, 100, 1000)]
        for machine, cost, share in table(task, constants, machines):
            second = sorted(cost.seconds, key=cost.seconds.get)[-2]
            print(f"| {machine.devices:,} | {duration(cost.total)} | {share:.1%} | {cost.used:,} | {cost.limit} "
                  f"({cost.seconds[cost.limit] / cost.total:.0%}) | {second} ({cost.seconds[second] / cost.total:.0%}) | "
                  f"{cost.moved['all-reduce'] / gib:.1f} GiB |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=("all", *JOBS), default="all")
    parser.add_argument("--network", choices=("ststnet", "htnet"), default="ststnet", help="of the trials")
    parser.add_argument("--folds", type=int, default=16, help="of the trials")
    parser.add_argument("--rows", type=int, default=2560, help="images that the CNN trains on")
    parser.add_argument("--repeats", type=int, default=5, help="epochs that are measured")
    parser.add_argument("--out", default="scale.json")
    parser.add_argument("--gpus", action="store_true", help="predictions alone, from assumed constants")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hosts", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given)
    else:
        gpus() if given.gpus else check(given)
