"""A model of what a protocol costs: wall time, memory of a device, bytes moved; on other numbers of devices too. docs/scale.md explains it.

Nothing here runs anything: `Work` is what a program has to do, `Measured` what a few of its steps took on one machine (step_timing.py),
`Machine` what it is to run on. Seconds and bytes throughout.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from fexpr.runs.step_timing import Measured

# Bytes a second that one device (of a network: one host) sends while it receives as many, by the makers' figures; see docs/scale.md
LINKS = {"nvlink": 450e9, "pcie": 64e9, "infiniband": 50e9, "ethernet": 12.5e9, "memory": 10e9}
LATENCY = 10e-6  # seconds of a hop of an all-reduce: an assumption
SCALARS = 6 * 4  # bytes of a trial that come to the host after an epoch


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program has to do, as its engine knows it.

    Attributes:
      trials, epochs, steps (of an epoch), parts (dispatches of an epoch), batch (rows).
      spread: whether the devices share a trial's batch, trial after trial; else they share the trials.
      streamed: bytes of images that an epoch of a trial reads from the disk, part: those of its first part; 0 where none are.
      reduced: bytes that an optimiser step sums over the devices: gradients of what is trained, batch statistics and their gradients.
      state: bytes of a trial's state. resident: bytes that a device holds whatever its load. needed: by the compiler, at the load that
        was measured. fit: trials that a device has at a time at most. interval: seconds between checkpoints, log.checkpoint_seconds.
    """

    trials: int
    epochs: int
    steps: int
    parts: int
    batch: int
    spread: bool
    streamed: int
    part: int
    reduced: int
    state: int
    resident: int
    needed: int
    fit: int
    interval: float


@dataclasses.dataclass(frozen=True)
class Machine:
    """What it is to run on.

    Attributes:
      devices: of all hosts together. per_host: of a host, which has a disk and a process of its own; 0: all are of one.
      cores: that CPU devices share; more devices than cores are no faster. 0: devices are accelerators.
      inside, between: bytes a second between devices of a host, and of a host's network.
    """

    devices: int
    per_host: int = 0
    cores: int = 0
    inside: float = LINKS["nvlink"]
    between: float = LINKS["infiniband"]
    latency: float = LATENCY

    def hosts(self, devices: int) -> int:
        """Of so many of them."""
        return math.ceil(devices / self.per_host) if self.per_host else 1


@dataclasses.dataclass(frozen=True)
class Cost:
    """A prediction.

    Attributes:
      seconds: by what they go to: 'compute' (what would be left if all devices were always full), 'compile', 'idle devices' (padding, or
        a batch that does not divide), 'small steps' (the part of a step that does not shrink with its load), 'cores' (shared by more
        devices), 'all-reduce', 'input', 'dispatch', 'checkpoints'.
      epoch: seconds of one epoch of a chunk. step: of one optimiser step of it. used: devices that have something to do. chunks: one after
        another. memory: bytes of a device.
      moved: bytes of an epoch and host: 'all-reduce' (sent by the devices of a host, to one another or to another host's), 'images'
        (read), 'scalars' and 'checkpoints' (fetched from the devices, and by network from the other hosts').
    """

    seconds: dict[str, float]
    epoch: float
    step: float
    used: int
    chunks: int
    memory: float
    moved: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def limit(self) -> str:
        """What most of the time goes to."""
        return max(self.seconds, key=self.seconds.get)


def predict(work: Work, measured: Measured, machine: Machine) -> Cost:
    """What `work` costs on `machine`, by constants of a machine of the same kind of device."""
    used, chunks, load, even = _layout(work, measured, machine.devices)
    hosts = machine.hosts(used)
    reduce = all_reduce_seconds(work, used, machine) if work.spread else 0.0
    # what was measured on several devices has their all-reduce in it, and the cores that they shared
    within = all_reduce_seconds(work, measured.devices, machine) if work.spread else 0.0
    cores = 1 if machine.cores and work.spread else machine.cores  # a CPU device that has a batch to itself computes with all cores
    home, here = (max(1.0, n / cores) if cores else 1.0 for n in (measured.devices, used))
    fixed, per_unit = max(0.0, measured.fixed - within) / home, measured.per_unit / home

    epochs, stepwise = chunks * work.epochs, work.steps + measured.evaluation
    times = {"compute": per_unit * even, "idle devices": per_unit * (load - even), "small steps": fixed}
    times |= {"cores": (here - 1) * sum(times.values())}
    seconds = {name: epochs * stepwise * s for name, s in times.items()} | {"all-reduce": epochs * work.steps * reduce}
    computing = sum(seconds.values()) / epochs
    images = work.streamed / hosts
    if work.streamed:  # the first part of an epoch is waited for, the others while they take longer than computing does
        seconds["input"] = epochs * max(work.part / hosts / measured.read, images / measured.read - computing)
    seconds["dispatch"] = epochs * work.parts * measured.dispatch
    at_once = math.ceil(work.trials / chunks)
    saving = work.state * at_once / measured.fetch
    running = sum(seconds.values())
    saves = min(epochs * work.parts, math.floor(running / max(1e-9, work.interval * max(1.0, saving))))
    seconds |= {"checkpoints": saves * saving, "compile": measured.compile}

    reducing = work.steps * reduced_bytes(work, used) * used / hosts if work.spread else 0.0
    moved = {"all-reduce": reducing, "images": images, "scalars": float(SCALARS * at_once),
             "checkpoints": saves / epochs * work.state * at_once}
    step = here * (fixed + per_unit * load) + reduce
    return Cost(seconds, running / epochs, step, used, chunks, memory(work, measured, load), moved)


def _layout(work: Work, measured: Measured, devices: int) -> tuple[int, int, float, float]:
    """Devices used, chunks, the load of a device, and what it would be if the work divided evenly over all devices."""
    if work.spread:
        used = max(n for n in range(1, min(devices, work.batch) + 1) if work.batch % n == 0)
        return used, work.trials, work.batch / used, work.batch / devices
    chunks = math.ceil(work.trials / (devices * work.fit))  # as Engine.plan: as many as fit, chunk after chunk
    return min(devices, work.trials), chunks, min(work.fit, math.ceil(work.trials / devices)), work.trials / (devices * chunks)


def memory(work: Work, measured: Measured, load: float) -> float:
    """Bytes of a device: the compiler's own account at the load that it compiled, and what comes with the load in proportion to it: trials,
    or the rows of a batch, whose one state and one gradient are there whatever the rows."""
    whole = min(work.needed, work.resident + (work.state + work.reduced if work.spread else 0))
    return whole + (work.needed - whole) * load / measured.load


def reduced_bytes(work: Work, devices: int) -> float:
    """What a device sends in the all-reduces of a step: a ring's 2 (d - 1) / d of what is summed (Patarasuk and Yuan 2009, eq. 5)."""
    return 2 * (devices - 1) / devices * work.reduced


def all_reduce_seconds(work: Work, devices: int, machine: Machine) -> float:
    """Of one step: bytes over the slowest link of the ring, and a tree's hops there and back."""
    if devices == 1:
        return 0.0
    bandwidth = machine.between if machine.hosts(devices) > 1 else machine.inside
    return reduced_bytes(work, devices) / bandwidth + 2 * math.ceil(math.log2(devices)) * machine.latency


def efficiency(one: Cost, many: Cost, devices: int) -> float:
    """Share of `devices` times one device's speed that is left."""
    return one.total / (devices * many.total)


def table(work: Work, measured: Measured, machines: Sequence[Machine]) -> list[tuple[Machine, Cost, float]]:
    """A prediction and its efficiency for each machine; one device of the first's kind is what they are compared with."""
    one = predict(work, measured, dataclasses.replace(machines[0], devices=1))
    costs = [predict(work, measured, machine) for machine in machines]
    return [(m, cost, efficiency(one, cost, m.devices)) for m, cost in zip(machines, costs, strict=True)]
