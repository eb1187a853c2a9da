"""Everything that `launch.py` does other than one run in this process: sweeps, dry runs, other
processes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from fexpr.errors import UserError
from fexpr.runs import opening, sweep
from fexpr.runs.launchers import slurm
from fexpr.runs.spec import OF_TRIALS
from fexpr.terminal import say
from fexpr.train import devices, distributed


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags of launch.py that determine where and how programs run."""

    engine: str = "local"
    address: str | None = None
    ray: str = ""
    slurm: str = ""
    program: int | None = None
    chunk: str = ""
    hosts: str = ""
    dry_run: bool = False

    def check(self) -> None:
        """Raises a UserError if an option is given that would be ignored."""
        needs = {
            "ray": ("--engine=ray", self.engine == "ray"),
            "address": ("--engine=ray", self.engine == "ray"),
            "slurm": ("--engine=slurm", self.engine == "slurm"),
            "chunk": ("--program=0, or another number", self.program is not None),
        }
        for name, (needed, is_given) in needs.items():
            if getattr(self, name) and not is_given:
                raise UserError(
                    f"--{name}={getattr(self, name)} needs {needed}", fix=f"add {needed}"
                )


def prepare() -> None:
    """Prepares the process: compiled programs are kept, and on CPU every core is a device."""
    devices.keep_compiled()
    devices.use_every_core()


def run_elsewhere(
    config: ConfigDict,
    place: str | Path,
    sweeps: Sequence[str],
    options: Options,
    experiment: Callable,
) -> bool:
    """Runs, shows or submits anything other than one run in this process, and returns whether it
    did. Joins the other processes of `options.hosts` in any case.

    Raises:
      UserError: options that do not fit the experiment; whatever the runs raise.
    """
    options.check()
    if options.engine == "slurm":
        count = len(sweep.programs(config, Path(place), sweeps)[1]) if sweeps else 0
        slurm.submit(sys.argv[1:], place, count, options.slurm, options.dry_run)
        return True
    of_ray = options.engine == "ray"
    if (of_ray or options.hosts) and config.experiment not in OF_TRIALS:
        flag = "--engine=ray" if of_ray else "--hosts"
        raise UserError(
            f"{flag}: experiment={config.experiment!r} runs in one process",
            fix=f"it works with {' and '.join(OF_TRIALS)}",
        )
    if options.hosts:
        distributed.join(options.hosts)
        if not options.dry_run:
            say(f"run        {place}")
    if not of_ray:
        devices.check()
    if options.dry_run:
        with distributed.exit_if_peer_lost():
            sweep.sweep(config, Path(place), sweeps, True, options.program)
        return True
    if not of_ray and not sweeps and options.program is None:
        return False
    with distributed.exit_if_peer_lost(), distributed.run_directory(place) as workdir:
        if of_ray:
            from fexpr.runs.launchers.ray_cluster import run_all  # Ray is an extra

            with opening.occupied(workdir, "ray"):
                run_all(config, workdir, sweeps, options.address, options.ray, experiment)
        elif options.program is not None:
            sweep.train_program(config, workdir, sweeps, options.program, options.chunk)
        else:
            sweep.programs(config, workdir, sweeps)  # so that mistakes leave no folder
            with opening.occupied(workdir):
                sweep.sweep(config, workdir, sweeps)
    return True
