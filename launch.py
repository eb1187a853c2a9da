"""Runs an experiment:  python launch.py --config=configs/htnet_samm.py

Short on purpose: everything it calls can be imported in a notebook.

  --config=FILE[:debug]          which experiment; ':debug' runs it in seconds on tiny synthetic data
  --config.FIELD=VALUE           changes one field (configs/base.py describes all), e.g. --config.train.epochs=100
  --workdir=DIR                  the run directory (default: runs/<config>[-changes]); an unfinished one is resumed
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # C++ chatter of XLA; must be set before it is loaded

from absl import app, flags
from ml_collections import config_flags

from fexpr import run, terminal
from fexpr.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory; default: a folder under runs/ named after config and changes.")
flags.mark_flag_as_required("config")


def main(_):
    import jax

    from configs.base import validate
    from experiments import EXPERIMENTS
    from experiments.run_dir import start_log
    from fexpr.data.prepare import resolve_source

    config = _CONFIG.value
    validate(config)
    jax.config.update("jax_compilation_cache_dir", str(run.cache_dir() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    config.data.source = resolve_source(config.data)
    workdir = Path(_WORKDIR.value or default_workdir(config))
    start_log(workdir)
    EXPERIMENTS[config.experiment](config, workdir)


def default_workdir(config) -> Path:
    """runs/<config file's name>, with '-synthetic' where no release was found, and every change made on the command line."""
    name, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).rpartition("/")[2].partition(".py:")
    changes = [f"{field.rsplit('.', 1)[-1]}={value}" for field, value in config_flags.get_override_values(flags.FLAGS["config"]).items()
               if field not in ("data.source", "data.root")]
    parts = [name.removesuffix(".py"), variant, "synthetic" if config.data.source == "synthetic" else "", *changes]
    return Path("runs") / "-".join(p for p in parts if p).replace("/", "_")


def cli() -> None:
    """A mistake of the user's is one message and exit code 2; Ctrl-C leaves a run that resumes; other errors keep their traceback."""
    try:
        app.run(main, flags_parser=parse)
    except UserError as e:
        terminal.error(e.text())
        sys.exit(2)
    except KeyboardInterrupt:
        terminal.error("interrupted: the same command goes on from the last checkpoint")
        sys.exit(130)


def parse(argv):
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError, SyntaxError) as e:
        raise UserError(f"the command line cannot be used: {e}", fix="python launch.py --help") from e


if __name__ == "__main__":
    cli()
