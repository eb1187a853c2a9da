"""Opening a run directory: new, unfinished (resume) or finished (report again), but never a folder
of something else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import jax

import fexpr
from fexpr import terminal
from fexpr.errors import UserError
from fexpr.runs import schema
from fexpr.runs.spec import RunSpec
from fexpr.storage import contents, lock, mirror, run
from fexpr.train import distributed

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "opencv-contrib-python-headless",
)
# what does not touch what was trained may stand in a folder that a run begins in; the second is
# what the first was called
CHANGEABLE = ("log", "evaluate", "extensions")
MOVABLE = ("data.root", "data.path")  # the data are compared by their content
LOGS = (run.LOG, "log.txt")
LOCK = ".lock"  # in the run directory, of the process that writes to it
# one of them is in every folder that fexpr has worked in
OURS = {run.CONFIG, run.METRICS, run.LOG, "comparison.json", "sweep.json", "study.json"}


def open_run(
    spec: RunSpec,
    data: dict,
    model: dict,
    devices: Mapping[str, object],
    init: dict | None = None,
) -> dict:
    """Writes config.json, or compares it with the existing one. Returns its content.

    Raises:
      UserError: the folder contains a run of another config or other data (the difference is
          listed), or cannot be written.
    """
    config, workdir = spec.config, spec.workdir
    path = workdir / run.CONFIG
    others = workdir.is_dir() and [
        p for p in workdir.iterdir() if p.name not in LOGS and not p.name.startswith(".")
    ]
    # checked after the folder was listed, as another task may just have opened the run
    again = path.exists()
    content = {
        "format": run.FORMAT_VERSION,
        "config": json.loads(config.to_json()),
        "data": data,
        "model": model,
        "devices": devices,
        "versions": {
            "fexpr": fexpr.__version__,
            "python": platform.python_version(),
            **{p: metadata.version(p) for p in PACKAGES},
        },
        "command": typed_command(),
    } | ({"init": init} if init else {})
    if again:
        content = _same_run(content, contents.read_config(path, contents.OPENED), workdir)
    elif others:
        raise UserError(
            f"{workdir} is not empty and contains no run of fexpr", fix="choose another --workdir"
        )
    run.write_json(path, content)
    terminal.event(
        "opened",
        run=str(workdir),
        again=again,
        devices=devices,
        data=data.get("source"),
        model=model.get("name"),
    )
    return content


def typed_command() -> str:
    """The command that the user typed, which `fexpr train` and the tasks of a cluster pass on."""
    return os.environ.get("FEXPR_COMMAND") or shlex.join(["python", *sys.argv])


@contextlib.contextmanager
def occupied(workdir: Path, part: str = "") -> Iterator[None]:
    """Locks a run directory while the block writes to it, and starts its log. Half-written files of
    killed processes are removed first.

    Args:
      part: a share of its trials, as '0-1of2': other shares may be written meanwhile.

    Raises:
      UserError: another process has locked it; it is a folder of something else, which is then left
          unchanged; it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        distributed.run_on_main_process(lambda: _occupy(workdir, part, stack))
        yield


def _occupy(workdir: Path, part: str, stack: contextlib.ExitStack) -> None:
    _refuse_others(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        busy = lock.refuse(
            f"{mirror.display_path(workdir)}",
            "wait until it has ended, end it (Ctrl-C saves), or choose another --workdir",
        )
        stack.enter_context(lock.held(workdir / LOCK, busy, shared=bool(part), keep=bool(part)))
        if part:
            stack.enter_context(lock.held(workdir / f"{LOCK}-{part}", busy, keep=False))
        else:
            run.remove_partial(workdir)
    except OSError as e:
        raise _unwritable(workdir, e) from e
    start_log(workdir)


def start_log(workdir: Path) -> None:
    """Sends the messages of libraries to the run's log file from now on.

    Raises:
      UserError: the folder, or its address, cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not os.access(workdir, os.W_OK):
            raise PermissionError(13, "Permission denied")
        terminal.log_to(workdir / run.LOG, jax.process_index() if jax.process_count() > 1 else None)
    except OSError as e:
        raise _unwritable(workdir, e) from e
    # so that an address that cannot be written is found before anything is done
    mirror.push(workdir / run.LOG)


def _unwritable(workdir: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write to the run directory {workdir}: {error.strerror or error}",
        fix="choose another --workdir",
    )


def _refuse_others(workdir: Path) -> None:
    """Raises a UserError before anything is written into a folder that fexpr has not made."""
    try:
        names = {p.name for p in workdir.iterdir() if not p.name.startswith(".")}
    except FileNotFoundError:
        return
    except OSError as e:
        raise _unwritable(workdir, e) from e
    if names - {*LOGS} and not names & OURS and not any(map(_is_run, workdir.glob("*"))):
        raise UserError(
            f"{workdir} is not empty and contains no run of fexpr", fix="choose another --workdir"
        )
    if run.CONFIG in names and not _is_run(workdir):
        raise UserError(
            f"{workdir / run.CONFIG} does not belong to a run of fexpr",
            fix="choose another --workdir",
        )


def _is_run(folder: Path) -> bool:
    """Whether the folder's config.json was written by fexpr. Raises a UserError if it is
    damaged.
    """
    path = folder / run.CONFIG
    content = run.read_json(path) if path.is_file() else None
    return isinstance(content, dict) and {"format", "config"} <= {*content}


def refuse_other_runs(specs: Sequence[RunSpec], source: str) -> None:
    """Raises a UserError if a run has another config, or was made from other data than `source`."""
    for spec in specs:
        old = contents.read_config(spec.workdir / run.CONFIG, contents.OPENED)
        _same_run(_settings(spec, source), old, spec.workdir)


def _settings(spec: RunSpec, source: str) -> dict:
    return {
        "format": run.FORMAT_VERSION,
        "config": json.loads(spec.config.to_json()),
        "data": {"source": source},
    }


def _same_run(new: dict, old: dict, workdir: Path) -> dict:
    """The old content, with the settings that may change taken from the new one."""
    if old.get("format") != run.FORMAT_VERSION:
        raise UserError(
            f"{workdir}: run directory of format {old.get('format')}, this fexpr writes "
            f"{run.FORMAT_VERSION}",
            fix="choose another --workdir",
        )
    # a field that did not exist when the run was made has its default
    a, b = _defaults() | _fixed(old["config"]), _fixed(new["config"])
    changed = [
        f"{k}: the run has {repr(a[k]) if k in a else 'no such field'}, this command "
        f"{repr(b[k]) if k in b else 'none'}"
        for k in sorted({*a, *b})
        if a.get(k) != b.get(k)
    ]
    if old["data"]["source"] != new["data"]["source"]:
        changed.append(
            f"data: the run was made from {old['data']['source']}, this command finds "
            f"{new['data']['source']}"
        )
    if (new.get("init") or {}).get(
        "sha256", sha256 := (old.get("init") or {}).get("sha256")
    ) != sha256:
        changed.append("init.from_file: the file's content has changed")
    if changed:
        raise UserError(
            f"{workdir} contains a run of another config",
            changed,
            fix="choose another --workdir for this config, or give the old settings to resume that "
            "run",
        )
    return {**old, "config": new["config"]}


def owner_of(specs: Sequence[RunSpec], source: str) -> str:
    """Identifies the runs of a program in their checkpoints: a hash of their data and of the
    settings that must not change. Those at their defaults are left out, so that a later version
    with more fields finds the same.
    """
    defaults, settings = _defaults(), []
    for spec in specs:
        found = _fixed(json.loads(spec.config.to_json()))
        # equal numbers are the same, as in `_same_run`: 1, 1.0
        settings.append(
            [
                (path, float(value) if isinstance(value, (int, float)) else value)
                for path, value in sorted(found.items())
                if value != defaults.get(path)
            ]
        )
    return hashlib.sha256(json.dumps([source, settings]).encode()).hexdigest()[:16]


def _defaults() -> dict:
    return _fixed(json.loads(schema.get_config().to_json()))


def _fixed(config: dict) -> dict:
    """The settings that must not change between two commands of a run, by path."""
    return {
        path: value
        for path, value in _flat(config).items()
        if path.split(".")[0] not in CHANGEABLE and path not in MOVABLE
    }


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat.update(
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": value}
        )
    return flat
