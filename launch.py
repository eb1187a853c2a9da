"""Runs an experiment:  python launch.py --config=configs/htnet_samm.py

  --config=FILE[:debug]     which experiment; ':debug' runs it in seconds on tiny synthetic data
  --config.FIELD=VALUE      changes one field, e.g. --config.train.epochs=100
  --workdir=DIR             the run directory, or its address (s3://bucket/run); default: under runs/, named after config and changes.
                            An unfinished run is resumed, a finished one is reported again.
  --sweep=FIELD=V1,V2,...   a run for each value, and for each combination where given several times; one program for all
                            that differ in values only; a table of results sorted by validation
  --hosts=auto              this is one of several processes that train one program together: SLURM, Open MPI, TPU pods are found;
                            elsewhere --hosts=ADDRESS:PORT,RANK,COUNT, in each process its own RANK
  --engine=ray              the programs, or the chunks of a cross-validation, as Ray tasks on this machine, or on the cluster at
                            --address=HOST:PORT ('auto': the one that runs here); --ray='gpus=1 cpus=4 memory=8GiB retries=3' a task
  --engine=slurm            submits the run, or every program of the sweep, as SLURM jobs that come back when preempted;
                            --slurm='--gpus-per-node=8 --time=04:00:00' passes options to sbatch, with --nodes=2 one program spans two
  --program=N               trains this program of a sweep alone, from 0, with --chunk=I/K one of K shares of its trials; the whole
                            command then puts all together
  --dry_run                 says what would be compiled, with how many trials, memory and time (a few steps are run and thrown
                            away), or what would be submitted, and stops

Short on purpose: everything it calls can be imported in a notebook.
"""

import difflib
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # C++ chatter of XLA; must be set before it is loaded

from absl import app, flags
from ml_collections import config_flags

from configs import base
from fexpr import terminal
from fexpr.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.")
_SWEEP = flags.DEFINE_multi_string("sweep", [], "FIELD=V1,V2,...: a run for every value.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Show programs, trials, memory and time; train nothing.")
_ENGINE = flags.DEFINE_enum("engine", "local", ["local", "ray", "slurm"], "Where the programs run.")
_ADDRESS = flags.DEFINE_string("address", None, "Of a Ray cluster; default: one that is started on this machine.")
_RAY = flags.DEFINE_string("ray", "", "What a Ray task is given.")
_SLURM = flags.DEFINE_string("slurm", "", "Options of sbatch.")
_PROGRAM = flags.DEFINE_integer("program", None, "Of a sweep, train this program alone.")
_CHUNK = flags.DEFINE_string("chunk", "", "I/K: of a program, train one of K shares of its trials.")
_HOSTS = flags.DEFINE_string("hosts", "", "auto, or ADDRESS:PORT,RANK,COUNT: one of several processes of one program.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory, or its address; default: a folder under runs/.")


def main(_):
    # imported after the flags: --help and mistakes answer at once
    from experiments import EXPERIMENTS
    from fexpr.data.preparation.prepare import resolve_source
    from fexpr.runs.launchers.slurm import submit
    from fexpr.runs.opening import start_log
    from fexpr.runs.spec import LABORATORIES, OF_TRIALS
    from fexpr.runs.sweep import programs, sweep, train_program
    from fexpr.train import distributed
    from fexpr.train.devices import keep_compiled, use_every_core

    config = _CONFIG.value
    base.validate(config)
    keep_compiled()
    if config.experiment not in LABORATORIES:
        config.data.source = resolve_source(config.data)
    if config.experiment != "fit" or config.sweep or _SWEEP.value:
        use_every_core()
    place, sweeps = _WORKDIR.value or default_workdir(config), [*config.sweep, *_SWEEP.value]
    if _ENGINE.value == "slurm":
        count = len(programs(config, Path(place), sweeps)[1]) if sweeps else 0
        submit(sys.argv[1:], place, count, _SLURM.value, _DRY_RUN.value)
        return
    of_ray = _ENGINE.value == "ray"
    if (of_ray or _HOSTS.value) and config.experiment not in OF_TRIALS:
        raise UserError(f"{'--engine=ray' if of_ray else '--hosts'}: experiment={config.experiment!r} is of one process",
                        fix=f"it is for {' and '.join(OF_TRIALS)}")
    if _HOSTS.value:
        distributed.join(_HOSTS.value)
    if _DRY_RUN.value:
        with distributed.exit_if_peer_lost():
            sweep(config, Path(place), sweeps, True, _PROGRAM.value)
        return
    with distributed.exit_if_peer_lost(), distributed.run_directory(place) as workdir:
        if of_ray:
            from fexpr.runs.launchers.ray_cluster import run_all  # Ray is an extra

            run_all(config, workdir, sweeps, _ADDRESS.value, _RAY.value, EXPERIMENTS[config.experiment])
        elif _PROGRAM.value is not None:
            train_program(config, workdir, sweeps, _PROGRAM.value, _CHUNK.value)
        elif sweeps:
            sweep(config, workdir, sweeps)
        else:
            distributed.run_on_main_process(lambda: start_log(workdir))
            EXPERIMENTS[config.experiment](config, workdir)


def default_workdir(config) -> Path:
    """runs/<config file's name>, then '-synthetic' where no release is read, then every change made on the command line."""
    name, _, variant = Path(config_flags.get_config_filename(flags.FLAGS["config"])).name.partition(":")
    changed = config_flags.get_override_values(flags.FLAGS["config"]).items()
    unnamed = ("data.source", "data.root", "log.", "evaluate.")  # these do not make it another run
    changes = [f"{field.rpartition('.')[2]}={value}" for field, value in changed if not field.startswith(unnamed)]
    parts = [name.removesuffix(".py"), variant, "synthetic" if config.data.source == "synthetic" else "", *changes,
             *(f"sweep-{text.partition('=')[0].rpartition('.')[2]}" for text in (*config.sweep, *_SWEEP.value))]
    return Path("runs") / "-".join(part for part in parts if part).replace("/", "_")


def parse(argv: list[str]) -> list[str]:
    """Flags and config file, every mistake in them as a UserError."""
    if len(argv) == 1 or {"--help", "-h", "--helpfull", "-help"} & set(argv):
        terminal.say(f"{__doc__}\n{base.describe()}")
        sys.exit(0)
    _check_config_file(argv)
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is None:
            raise ValueError("no --config is given")
        _CONFIG.value.lock()  # a file that did not load says so only now
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError, SyntaxError, NameError) as e:
        said = str(e).replace("\\n", "\n").replace("\\'", "'")
        unknown = re.fullmatch(r"[\"']*(\w+)['\"]*(?:\n(Did you mean .*?)'*)?", said)  # what a ConfigDict says, quoted once or twice
        reason = f"there is no field {unknown[1]!r}. {unknown[2] or ''}".rstrip() if unknown else said
        raise UserError(f"the command line or the config cannot be used: {reason}", fix="python launch.py --help lists every field") from e
    return rest


def _check_config_file(argv: list[str]) -> None:
    """What is no config file would otherwise be reported as whatever came of running it."""
    values = [a.partition("=")[2] or b for a, b in zip(argv, [*argv[1:], ""], strict=True) if re.match("--?config(=|$)", a)]
    for path in (Path(value.partition(":")[0]) for value in values if value):
        if not path.is_file() or path.suffix != ".py":
            known = {p.name: p for p in sorted(Path("configs").glob("*.py"))}
            near = [f"perhaps {known[name]}" for name in difflib.get_close_matches(f"{path.stem}.py", known, cutoff=0.7)]
            why = "a config is a Python file" if path.is_file() else "there is no such file"
            raise UserError(f"--config={path}: {why}", near, "python launch.py --help lists the configs")


def cli() -> None:
    """A mistake of the user's is one message and exit code 2; Ctrl-C leaves a run that resumes; other errors keep their traceback."""
    terminal.quiet()
    try:
        sys.exit(terminal.exit_code(lambda: app.run(main, flags_parser=parse)))
    except KeyboardInterrupt:
        terminal.error("interrupted: the same command goes on from the last checkpoint")
        sys.exit(130)


if __name__ == "__main__":
    cli()
