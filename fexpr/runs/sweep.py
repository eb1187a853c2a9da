"""Trains many points in one command: points that differ only in values train as trials of one
program, the others as further programs.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.errors import UserError
from fexpr.evaluate.report.sweep_report import print_sweep, write_sweep_report
from fexpr.evaluate.report.text_tables import label_synthetic
from fexpr.runs import describe, forecast, opening, results, schema
from fexpr.runs.build import build_engine
from fexpr.runs.initialize import load_initialization
from fexpr.runs.spec import OF_TRIALS, VALUES, RunSpec
from fexpr.runs.train_run import train
from fexpr.storage import contents, mirror, run
from fexpr.terminal import console, say
from fexpr.train import distributed


def sweep(
    config: ConfigDict,
    workdir: Path,
    sweeps: Sequence[str],
    dry_run: bool = False,
    program: int | None = None,
) -> None:
    """Writes a run directory for each point under `workdir`, then one table, sorted by validation;
    finished points are not run again.

    Args:
      sweeps: 'FIELD=V1,V2,...' each (values that contain commas: separated by ';'); every
          combination is a point.
      dry_run: only print what would be compiled: programs, trials, memory, and the predicted time,
          from a few steps whose results are discarded.
      program: with dry_run, show only this program.

    Raises:
      UserError: unknown field, value of another type, a point whose config cannot be used; no such
          program.
    """
    points, groups = programs(config, workdir, sweeps)
    _check_program(program, groups)
    if sweeps:  # a dry run may be of the config as it is
        say(f"sweep      {describe.number_of(len(points), 'point')}: {'  '.join(sweeps)}")
    for i, group in enumerate(groups):
        if program not in (None, i):
            continue
        if sweeps:
            say(
                f"\nprogram    {i + 1} of {len(groups)}: "
                f"{describe.number_of(len(group), 'point')}: "
                + "  ".join(p.workdir.name for p in group)
            )
        if dry_run:
            _show(group)
        else:
            _run(group, workdir)
    if not dry_run:
        distributed.run_on_main_process(lambda: make_table(points, config.train.monitor, workdir))


def list_programs(config: ConfigDict, workdir: Path, sweeps: Sequence[str]) -> list[list[RunSpec]]:
    """The runs of each program: the points of a sweep, or the run itself. Errors as in
    `sweep`.
    """
    return programs(config, workdir, sweeps)[1] if sweeps else [[RunSpec(config, workdir)]]


def train_program(
    config: ConfigDict, workdir: Path, sweeps: Sequence[str], program: int, chunk: str = ""
) -> None:
    """Trains only one program, counted from 0; the points of a sweep are reported. The whole
    command, run later, finds them finished.

    Args:
      chunk: 'I/N', one of N shares of the program's trials, I from 0; the whole command combines
          them.

    Raises:
      UserError: no such program or chunk; an experiment that is not a set of trials; as in `sweep`.
    """
    if config.experiment not in OF_TRIALS:
        raise UserError(
            f"--program: experiment={config.experiment!r} is not a set of trials",
            fix=f"it works with {' and '.join(OF_TRIALS)}",
        )
    found = list_programs(config, workdir, sweeps)
    _check_program(program, found)
    parts = re.fullmatch(r"(\d+)/(\d+)", chunk)
    share = (int(parts[1]), int(parts[2])) if parts else None
    if chunk and (share is None or not share[0] < share[1]):
        raise UserError(
            f"--chunk={chunk}: expected I/N with I from 0 to N - 1",
            fix="for example --chunk=0/2 and --chunk=1/2",
        )
    with opening.occupied(workdir, f"{program}-{chunk.replace('/', 'of')}"):
        _run(found[program], workdir, bool(sweeps), share)


def _check_program(program: int | None, found: Sequence) -> None:
    if program is not None and not 0 <= program < len(found):
        raise UserError(f"--program={program}: there are programs 0 to {len(found) - 1}")


def programs(
    config: ConfigDict, workdir: Path, sweeps: Sequence[str]
) -> tuple[list[tuple[RunSpec, dict]], list[list[RunSpec]]]:
    """The points with their settings, and the points of each program. Errors as in `sweep`."""
    if config.experiment not in OF_TRIALS:
        raise UserError(
            f"experiment={config.experiment!r} is not a set of trials: --sweep and --dry_run do "
            "not apply to it",
            fix=f"they work with {' and '.join(OF_TRIALS)}",
        )
    points = make_points(config, workdir, [parse(config, text) for text in sweeps])
    return points, list(by_program([point for point, _ in points]))


def make_table(points: Sequence[tuple[RunSpec, dict]], monitor: str, workdir: Path) -> None:
    """Prints the sweep's table, sorted by validation, and writes its page, from finished runs."""
    rows = [_row(point, settings) for point, settings in points]
    source = contents.read_metrics(points[0][0].workdir / run.METRICS)["source"]
    page = write_sweep_report(workdir, rows, monitor, source)
    say()
    print_sweep(rows, monitor)
    label_synthetic(source, console)
    say(f"\nreport     {mirror.display_path(page)}")


def parse(config: ConfigDict, text: str) -> tuple[str, list]:
    """Parses 'optimizer.learning_rate=1e-4,3e-4' into ('optimizer.learning_rate', [0.0001,
    0.0003]), by the type of the config's own value.
    """
    field, equals, values = text.partition("=")
    try:
        now = _get(config, field)
    except (KeyError, AttributeError) as e:
        raise UserError(
            f"--sweep={text}: the config has no field {field!r}",
            fix="python launch.py --help=all lists the fields",
        ) from e
    if not equals or not values or isinstance(now, (ConfigDict, tuple)):
        raise UserError(
            f"--sweep={text}: expected FIELD=V1,V2,...",
            fix="e.g. --sweep=optimizer.learning_rate=1e-4,3e-4",
        )
    convert = (
        (lambda v: {"true": True, "false": False}[v.lower()])
        if isinstance(now, bool)
        else type(now)
    )
    try:
        return field, [convert(v.strip()) for v in values.split(";" if ";" in values else ",")]
    except (ValueError, KeyError) as e:
        raise UserError(
            f"--sweep={text}: {field} is a {type(now).__name__}: {e}",
            fix=f"give values such as {now}",
        ) from e


def make_points(
    config: ConfigDict, workdir: Path, axes: Sequence[tuple[str, list]]
) -> list[tuple[RunSpec, dict]]:
    """Every combination as a point with its settings and its own folder."""
    points = []
    for values in itertools.product(*(values for _, values in axes)):
        settings = dict(zip((field for field, _ in axes), values, strict=True))
        own = config.copy_and_resolve_references()
        own.sweep = ()
        own.update_from_flattened_dict(settings)
        schema.validate(own)
        name = (
            ",".join(
                f"{field.rpartition('.')[2]}={value}" for field, value in settings.items()
            ).replace("/", "_")
            or "point"
        )
        points.append((RunSpec(own, workdir / name), settings))
    return points


def by_program(points: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
    """Groups points that differ only in `VALUES`, in order of first appearance."""
    groups: dict[str, list[RunSpec]] = {}
    for point in points:
        rest = point.config.copy_and_resolve_references()
        for field in VALUES:
            _set(rest, field, type(_get(rest, field))(0))
        groups.setdefault(rest.to_json(), []).append(point)
    yield from groups.values()


def _run(
    group: list[RunSpec], workdir: Path, of_sweep: bool = True, share: tuple[int, int] | None = None
) -> None:
    """Trains the points of one program that are not finished, and reports those that have no
    report; a share is only trained.
    """
    dataset, folds = describe.prepare(group[0].config)
    waiting = [
        group[i]
        for i in distributed.broadcast_from_main([i for i, p in enumerate(group) if not p.finished])
    ]
    done = [point for point in group if point not in waiting] if of_sweep else []
    distributed.run_on_main_process(lambda: opening.refuse_other_runs(done, dataset.source))
    if waiting:
        train(
            waiting,
            dataset,
            folds,
            program_dir(workdir, waiting) if of_sweep else workdir,
            share=share,
        )
    if of_sweep and not share:
        distributed.run_on_main_process(lambda: report_points(group, waiting, dataset))


def program_dir(workdir: Path, waiting: Sequence[RunSpec]) -> Path:
    """The folder of the checkpoints of a sweep's program, which only fit these points."""
    return (
        workdir
        / "programs"
        / hashlib.sha256(
            " ".join(p.workdir.name for p in waiting).encode(errors="backslashreplace")
        ).hexdigest()[:12]
    )


def report_points(specs: Sequence[RunSpec], trained: Sequence[RunSpec], dataset: Dataset) -> None:
    """Writes the reports of the runs just trained, and of those that have none."""
    for spec in specs:
        if spec in trained or not (spec.workdir / run.REPORT).exists():
            results.report(spec.config, dataset, spec.workdir, quiet=True)


def _show(group: list[RunSpec]) -> None:
    dataset, folds = describe.prepare(group[0].config)
    start = load_initialization(group[0].config, dataset, folds, dry_run=True)
    engine = build_engine(group, dataset, folds, start)
    model = describe.describe_model(group[0].config, engine, start)
    plan = engine.compile()
    say(f"model      {describe.in_words(model)}")
    say(f"trials     {describe.product(group, folds)} = {plan.trials}")
    say(
        f"memory     {plan.bytes_needed / 2**30:.2f} GiB a device for "
        f"{describe.number_of(plan.size, 'trial')} at a time, "
        f"{describe.number_of(plan.chunks, 'chunk')}; {plan.bytes_limit / 2**30:.2f} GiB may "
        "be used"
    )
    forecast.show(engine, group[0].config.train.epochs)


def _row(point: RunSpec, settings: dict) -> dict:
    metrics = contents.read_metrics(point.workdir / run.METRICS)
    failed = contents.read_predictions(point.workdir / run.PREDICTIONS)["failed"]
    return {
        "name": point.workdir.name,
        "settings": settings,
        "run_dir": point.workdir,
        "val": metrics["val"],
        "test": metrics["test"],
        "failed": int(failed.sum()),
        "seconds": run.read_json(point.workdir / run.CONFIG).get("wall_seconds"),
    }


def _get(config: ConfigDict, field: str) -> Any:
    for part in field.split("."):
        config = config[part]
    return config


def _set(config: ConfigDict, field: str, value: object) -> None:
    section, _, name = field.rpartition(".")
    (_get(config, section) if section else config)[name] = value
