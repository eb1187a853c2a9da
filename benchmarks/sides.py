"""Two sides of a comparison, each in a process of its own: passes on demand, timed there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def work(make: Callable[[], tuple[Callable[[], None], str]]) -> None:
    """A side's process: one timed pass for every line on stdin. `make` gives the pass and a line
    about what it runs with.
    """
    run = None
    for _ in sys.stdin:
        if run is None:
            run, about = make()
        began = time.perf_counter()
        run()
        seconds, peak = (
            time.perf_counter() - began,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )
        print(json.dumps({"seconds": seconds, "peak_mb": peak, "about": about}), flush=True)


def epochs_of(engine: Any) -> Callable[[], None]:
    """A pass of fexpr's side: one epoch further of the engine's first chunk, waited for."""
    import jax

    state = None

    def run() -> None:
        nonlocal state
        if state is None:
            engine.compile()
            engine.load(0)
            state = engine.init()
        state, _ = engine.epoch(state)
        jax.block_until_ready(state)

    return run


class Side:
    """A worker process, `command` of this Python, and the passes that it has made."""

    def __init__(self, name: str, command: Sequence[str]):
        self.name, self.passes = name, []
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def go(self) -> float:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        # the data room may say what it reads
        while not (line := self.process.stdout.readline()).startswith('{"seconds"'):
            if not line:
                sys.exit(f"the {self.name} side ended without an answer")
        self.passes.append(json.loads(line))
        return self.passes[-1]["seconds"]

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    @property
    def warm(self) -> float:
        return statistics.median(p["seconds"] for p in self.passes[1:])


def peer_side(package: str, name: str, command: Sequence[str]) -> Side | None:
    """The other side, or None, aloud, where its package is not installed."""
    if importlib.util.find_spec(package) is None:
        print(f"{package} is not installed: fexpr is measured without a peer")
        return None
    return Side(name, command)


def compare(
    ours: Side, peer: Side | None, repeats: int, what: str, units: float, unit: str
) -> None:
    """Alternates passes, then prints cold and warm times, `units` of `unit` a second, and the
    ratios (of two sides).

    The first pass is cold; warm is the median of the others. The paired ratio is the median over
    passes of peer to ours, one right after the other: what else the machine was doing weighs less
    on it.
    """
    both = [ours, peer] if peer else [ours]
    for _ in range(repeats + 1):
        for side in both:
            side.go()
    for side in both:
        side.close()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; {what}; median of {repeats} warm "
        "passes (all: see below)"
    )
    print(f"{'':8}{'cold s':>9}{'warm s':>9}{unit + ' / s':>20}{'peak MB':>9}   with")
    for side in both:
        print(
            f"{side.name:8}{side.passes[0]['seconds']:9.2f}{side.warm:9.2f}"
            f"{units / side.warm:20.1f}{side.passes[-1]['peak_mb']:9.0f}   "
            f"{side.passes[0]['about']}"
        )
    if peer:
        pairs = [
            p["seconds"] / o["seconds"]
            for o, p in zip(ours.passes[1:], peer.passes[1:], strict=True)
        ]
        print(
            f"ratio warm {peer.warm / ours.warm:.2f} (paired {statistics.median(pairs):.2f}, "
            f"{min(pairs):.2f} to {max(pairs):.2f}), "
            f"cold {peer.passes[0]['seconds'] / ours.passes[0]['seconds']:.2f} ({peer.name} / "
            f"{ours.name})"
        )
    for side in both:
        print(f"{side.name} passes: " + " ".join(f"{p['seconds']:.2f}" for p in side.passes))
