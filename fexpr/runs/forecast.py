"""The time predicted by `--dry_run`: a few steps and forward passes of the compiled program are
timed, and their results discarded.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import jax

from fexpr import terminal
from fexpr.evaluate.report.run_report import duration
from fexpr.runs import utilization
from fexpr.runs.describe import number_of
from fexpr.train import devices, distributed
from fexpr.train.trials import Engine

SAMPLE = 0.5  # seconds for which to time; at least one part of an epoch


class Forecast(NamedTuple):
    """Predicted seconds. `compile`: until the first step, with the present cache of compiled
    programs. `step`: an optimiser step of a chunk's trials. `epoch`: of a chunk, with its
    validation and test rows. `total`: of all epochs of all chunks, with compiling."""

    compile: float
    step: float
    epoch: float
    total: float


def measure(engine: Engine, epochs: int) -> Forecast:
    """Compiles the engine's program if necessary, and times a few parts of its first epoch."""
    plan, began = engine.compile(), time.monotonic()
    engine.load(0)
    state = jax.block_until_ready(engine.init())
    compiled, parts = plan.compile_seconds + time.monotonic() - began, engine.dispatches_per_epoch
    # the passes of the evaluation; with streamed images they are in the last part
    closing = max(1, parts - engine.resumable)

    def seconds(first: int, last: int, count: int) -> float:
        """The seconds of one part, by the clock of the main process."""
        nonlocal state
        began = time.monotonic()
        state, scalars = engine.advance(state, first, min(last, first + count))
        jax.block_until_ready((state.step, scalars))
        return distributed.broadcast_from_main(
            (time.monotonic() - began) / (min(last, first + count) - first)
        )

    def sample(first: int, last: int) -> float:
        if first == last:
            return 0.0
        seconds(first, last, 1)  # the first pass is not typical: caches are cold
        return seconds(first, last, max(1, int(SAMPLE / max(seconds(first, last, 1), 1e-9))))

    part, close = sample(0, parts - closing), sample(parts - closing, parts)
    epoch = (parts - closing) * part + closing * close
    step = (part or close) * min(engine.resumable, parts) / engine.steps
    return Forecast(compiled, step, epoch, compiled + plan.chunks * epochs * epoch)


def show(engine: Engine, epochs: int) -> None:
    """Prints the predicted time of this program on these devices."""
    with terminal.progress("timing a few steps", 1) as advance:
        found = measure(engine, epochs)
        advance()
    terminal.say(in_words(found, epochs, engine))
    for name, used in utilization.of_epoch(engine, found.epoch).items():
        terminal.say(
            f"arithmetic {utilization.epoch_flops(engine) / 1e9:,.3g} GFLOP an epoch of a chunk, "
            f"{used:.1%} of what the devices can do ({name})"
        )
    terminal.say(
        "predicted from a few steps on this machine; without reading data, "
        "checkpoints and the report "
        "(docs/scale.md)",
        style="dim",
    )


def in_words(found: Forecast, epochs: int, engine: Engine) -> str:
    """The line `time`."""
    facts, chunks = devices.facts(engine.mesh.size), engine.plan.chunks
    times = f"{chunks} chunks of " if chunks > 1 else ""
    return (
        f"time       about {duration(found.total)} on {facts['count']} x {facts['kind']}: "
        f"{_short(found.compile)} compiling, "
        f"then {times}{number_of(epochs, 'epoch')} of {_short(found.epoch)} "
        f"({number_of(engine.steps, 'step')} of {_short(found.step)}, and evaluation)"
    )


def _short(seconds: float) -> str:
    return (
        duration(seconds)
        if seconds >= 10
        else f"{seconds:.2f} s"
        if seconds >= 1
        else f"{1000 * seconds:.3g} ms"
    )
