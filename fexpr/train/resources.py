"""What a program took of its machine, in time and memory, for metrics.jsonl and config.json."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import jax

from fexpr.train.trials import Engine


def of_epoch(engine: Engine, seconds: float, whole: bool) -> dict[str, float | int]:
    """Fields of the row of an epoch that has just ended, of this process alone (of several: the one
    that writes).

    `step_seconds`: the epoch's seconds over its optimiser steps. Its evaluation of validation and
    test rows is in them, and a step is that of all trials at once. `input_wait`: seconds without
    images, where they are streamed. `device_bytes`, `host_bytes`: see `peaks`.

    Args:
      seconds: of the epoch. whole: False where this process did not see it begin; a step's seconds
          cannot be told then.
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
    """Bytes at the peak so far: `device_bytes` of the fullest device, where the platform counts
    them (a CPU does not), and `host_bytes` resident in this process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    counted = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    return ({"device_bytes": max(counted)} if counted else {}) | {"host_bytes": host_bytes()}


def host_bytes() -> int:
    """The largest resident set that this process had.

    Linux hands getrusage's figure on to what a process starts: a child of a large parent would
    begin with the parent's peak. The kernel's own line about the process does not, so it is read
    where there is one.
    """
    status = Path("/proc/self/status")
    if found := status.exists() and re.search(
        r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE
    ):
        return int(found[1]) * 1024
    # kilobytes but on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
