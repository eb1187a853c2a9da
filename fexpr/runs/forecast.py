"""What `--dry_run` says of time and bytes: the real program is compiled, a few of its steps are timed, and the cost model does the rest."""

from __future__ import annotations

import os

import jax
from ml_collections import ConfigDict
from rich.table import Table

from fexpr import terminal
from fexpr.evaluate.report.headline import print_table
from fexpr.evaluate.report.run_report import duration, memory
from fexpr.runs import cost_model, describe
from fexpr.runs.step_timing import Measured, measured
from fexpr.train import resources
from fexpr.train.trials import Engine

DEVICES = (1, 2, 4, 8, 10, 100, 1000)
HOST_DEVICES = 8  # accelerators of a host where there are many


def work_of(engine: Engine, epochs: int, checkpoint_seconds: float) -> cost_model.Work:
    """What the engine's program has to do. Compiles it, if it is not yet."""
    plan, sizes, share = engine.compile(), resources.sizes(engine), engine.size // engine.mesh.shape["trial"]
    each = (plan.bytes_needed - sizes.resident) / share
    return cost_model.Work(
        trials=plan.trials, epochs=epochs, steps=engine.steps, batch=engine.recipe.batch_size,
        parts=engine.dispatches_per_epoch if sizes.streamed else 1,  # an epoch that takes long is cut, at seconds each: too few to count
        spread=sizes.streamed > 0 or plan.trials == 1, streamed=sizes.streamed, part=sizes.part, reduced=sizes.reduced, state=sizes.state,
        resident=sizes.resident, needed=plan.bytes_needed, interval=checkpoint_seconds,
        fit=share if plan.chunks > 1 else max(share, int((plan.bytes_limit - sizes.resident) / each)),
    )


def here() -> cost_model.Machine:
    """The devices of this program."""
    cpu = jax.default_backend() == "cpu"
    return cost_model.Machine(jax.device_count(), jax.local_device_count(), cores() if cpu else 0,
                        cost_model.LINKS["memory" if cpu else "nvlink"], cost_model.LINKS["ethernet" if cpu else "infiniband"])


def others() -> list[cost_model.Machine]:
    """The same kind of devices in other numbers: of a CPU on this machine, accelerators eight to a host."""
    if jax.default_backend() == "cpu":
        return [cost_model.Machine(n, 0, cores(), cost_model.LINKS["memory"]) for n in DEVICES]
    return [cost_model.Machine(n, HOST_DEVICES) for n in DEVICES]


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def show(config: ConfigDict, engine: Engine) -> None:
    """Prints predicted time and bytes of this program, and a table for other numbers of devices."""
    work = work_of(engine, config.train.epochs, config.log.checkpoint_seconds)
    with terminal.progress("timing a few steps", 1) as advance:
        constants = measured(engine)
        advance()
    predicted = cost_model.predict(work, constants, here())
    for line in in_words(work, predicted):
        terminal.say(line)
    terminal.say()
    print_table(as_table(work, constants, others()), terminal.console)
    terminal.say("predicted from a few steps just run on this machine, for devices like these (docs/scale.md); without reading data and "
                 "the report", style="dim")


def in_words(work: cost_model.Work, predicted: cost_model.Cost) -> tuple[str, str]:
    """The lines `time` and `moved`."""
    chunks = f"{predicted.chunks} chunks of " if predicted.chunks > 1 else ""
    rest = ", ".join(f"{duration(predicted.seconds[name])} {words}" for name, words in (
        ("compile", "compiling"), ("input", "waiting for images"), ("checkpoints", "for checkpoints"))
                     if predicted.seconds.get(name, 0) > 0.01 * predicted.total)
    steps = f"{describe.number_of(work.steps, 'step')} of {short(predicted.step)}"
    moved = ", ".join(f"{_size(predicted.moved[name])} {words}" for name, words in (
        ("all-reduce", "summed over the devices"), ("images", "of images read"), ("scalars", "of scalars fetched"),
        ("checkpoints", "of checkpoints")) if predicted.moved[name])
    epochs = f"{chunks}{describe.number_of(work.epochs, 'epoch')} of {short(predicted.epoch)} ({steps})"
    return (f"time       about {duration(predicted.total)}: {epochs}" + (f", {rest}" if rest else ""),
            f"moved      an epoch and host: {moved}")


def as_table(work: cost_model.Work, constants: Measured, machines: list[cost_model.Machine]) -> Table:
    """Devices down; time, efficiency, memory and what most of the time goes to across."""
    shown = Table(box=None, pad_edge=False, header_style="")
    for heading in ("devices", "time", "efficiency", "memory", "most of the time goes to"):
        shown.add_column(heading, justify="left" if heading.startswith("most") else "right", no_wrap=True)
    for machine, predicted, share in cost_model.table(work, constants, machines):
        shown.add_row(f"{machine.devices:,}", duration(predicted.total), f"{share:.0%}" if share >= 0.01 else f"{share:.2%}",
                      memory(predicted.memory), predicted.limit)
    return shown


def short(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _size(size: float) -> str:
    return memory(size) if size >= 2**20 else f"{size / 2**10:.1f} KiB" if size >= 2**10 else f"{size:.0f} B"
