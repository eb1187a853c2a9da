"""Runs an experiment:  python launch.py --config=configs/htnet_samm.py

--config=FILE[:debug]    which experiment: a file, or the name of a config below; ':debug' runs
                         it in seconds on tiny synthetic data
--config.FIELD=VALUE     changes one field, e.g. --config.train.epochs=100
--help[=SECTION]         this; or the fields of a section of the config (data, split, init, train,
                         optimizer, augment, evaluate, filter, log), or of 'all'
--workdir=DIR            the run directory, or its address (s3://bucket/run); default: under runs/,
                         by config and changes. Unfinished runs resume, finished ones report again
--sweep=FIELD=V1,V2,...  a run for each value, and for each combination where given several times
--hosts=auto             one of several processes of one program: SLURM, Open MPI, TPU pods are
                         found; elsewhere --hosts=ADDRESS:PORT,RANK,COUNT
--engine=ray             programs as Ray tasks here, or on the cluster at --address=HOST:PORT;
                         --ray='gpus=1 cpus=4 memory=8GiB retries=3' a task
--engine=slurm           submits SLURM jobs; --slurm='--gpus-per-node=8' passes options to sbatch
--program=N              of a sweep trains this program alone, from 0; --chunk=I/K: a share of it
--dry_run                says what would be compiled, with how many trials, memory and time
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # C++ chatter of XLA, set before it is loaded
from absl import app, flags
from ml_collections import config_flags

from configs import base
from fexpr import terminal
from fexpr.runs import command_line

_CONFIG = config_flags.DEFINE_config_file("config", None, "a config file")
_SWEEP = flags.DEFINE_multi_string("sweep", [], "FIELD=V1,V2,...")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "train nothing")
_ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray", "slurm"], "where programs run")
_ADDRESS = flags.DEFINE_string("address", None, "of a Ray cluster")
_RAY = flags.DEFINE_string("ray", "", "resources of a Ray task")
_SLURM = flags.DEFINE_string("slurm", "", "options of sbatch")
_PROGRAM = flags.DEFINE_integer("program", None, "of a sweep")
_CHUNK = flags.DEFINE_string("chunk", "", "of a program")
_HOSTS = flags.DEFINE_string("hosts", "", "of one program")
_WORKDIR = flags.DEFINE_string("workdir", None, "of the run")


def main(words):
    command_line.refuse_words(words[1:])
    config = _CONFIG.value
    base.validate(config)
    # what takes long to import comes after what can be said without it
    from fexpr.data.data_sets import resolve_source
    from fexpr.runs.spec import LABORATORIES
    from fexpr.storage.addresses import path_or_url

    if config.experiment not in LABORATORIES:
        config.data.source = resolve_source(config.data)
    sweeps = [*config.sweep, *_SWEEP.value]
    place = (
        path_or_url(_WORKDIR.value)
        if _WORKDIR.value
        else command_line.default_workdir(config, sweeps)
    )
    # of several processes only the main one says it, once they know which one that is
    if not (_DRY_RUN.value or _HOSTS.value):
        terminal.say(f"run        {place}")
    from experiments import EXPERIMENTS
    from fexpr.config import resolve
    from fexpr.runs import opening
    from fexpr.runs.launchers import dispatch
    from fexpr.train import distributed

    experiment = resolve(EXPERIMENTS[config.experiment])
    dispatch.prepare()
    options = dispatch.Options(
        _ENGINE.value,
        _ADDRESS.value,
        _RAY.value,
        _SLURM.value,
        _PROGRAM.value,
        _CHUNK.value,
        _HOSTS.value,
        _DRY_RUN.value,
    )
    if dispatch.run_elsewhere(config, place, sweeps, options, experiment):
        return
    with (
        distributed.exit_if_peer_lost(),
        distributed.run_directory(place) as workdir,
        opening.occupied(workdir),
    ):
        experiment(config, workdir)


def parse(argv: list[str]) -> list[str]:
    """As of command_line.parse, with this file's commands for --help."""
    return command_line.parse(
        argv, base.FOLDER, lambda topic: base.describe_all(topic, __doc__ or "")
    )


def cli() -> None:
    """Runs the command line: a user's mistake is one message and exit code 2; other errors keep
    their traceback.
    """
    terminal.quiet()
    left = "the same command resumes from what is finished"
    sys.exit(terminal.exit_code(lambda: app.run(main, flags_parser=parse), left))


if __name__ == "__main__":
    cli()
