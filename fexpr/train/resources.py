"""Time and memory used by a program, for metrics.jsonl and config.json."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import jax

from fexpr.train.trials import Engine


def of_epoch(engine: Engine, seconds: float, whole: bool) -> dict[str, float | int]:
    """Fields of the row of an epoch that has just ended, of this process only (of several: the main
    process). `step_seconds`: the epoch's seconds, with the evaluation of validation and test rows,
    divided by its optimiser steps; a step trains all trials at once. `input_wait`: seconds of
    waiting for images, if they are streamed. `device_bytes`, `host_bytes`: see `peaks`.

    Args:
      seconds: of the epoch. whole: False if this process did not run the whole epoch; then a step's
          seconds are unknown.
    """
    row = {"step_seconds": float(f"{seconds / engine.steps:.4g}")} if whole else {}
    return (
        row
        | (
            {}
            if engine.input_wait_seconds is None
            else {"input_wait": round(engine.input_wait_seconds, 4)}
        )
        | peaks()
    )


def of_program(engine: Engine) -> dict[str, float | int]:
    """The compiled program's own account, and the peaks of the process that ran it: `resources` of
    config.json.
    """
    plan = engine.plan._asdict()
    return plan | {"compile_seconds": round(plan["compile_seconds"], 2)} | peaks()


def peaks() -> dict[str, int]:
    """Bytes at the peak so far: `device_bytes` of the fullest device, if the platform reports them
    (a CPU does not), and `host_bytes` resident in this process.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    counted = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    return ({"device_bytes": max(counted)} if counted else {}) | {"host_bytes": host_bytes()}


def host_bytes() -> int:
    """The largest resident set that this process had.

    On Linux, child processes inherit getrusage's figure: the child of a large parent would start
    with the parent's peak. The kernel's own figure (VmHWM) is not inherited, so it is read if
    available.
    """
    status = Path("/proc/self/status")
    if found := status.exists() and re.search(
        r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE
    ):
        return int(found[1]) * 1024
    # kilobytes, except on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
