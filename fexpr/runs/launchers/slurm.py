"""A run or a sweep as SLURM jobs: an array with one task per program, or one program over several
nodes; preempted tasks are requeued. The script is simple enough to read, change and submit by hand.
SLURM's own options are passed on as they are.
"""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fexpr.errors import RESUMABLE, UserError
from fexpr.storage.addresses import is_address
from fexpr.terminal import say

WARNING = 120  # seconds before the time limit at which a task is signalled to save and stop
# flags that are replaced or removed for the tasks
VALUED = ("--engine", "--slurm", "--workdir", "--address", "--ray")
BARE = ("--dry_run", "--nodry_run")


def submit(
    arguments: Sequence[str], place: Path | str, programs: int, options: str, dry_run: bool
) -> None:
    """Submits the jobs; with `dry_run` prints what it would submit.

    Args:
      arguments: of the command line, without the program's name.
      place: the run directory or its address.
      programs: the number of programs of the sweep; 0 for a single run.
      options: of sbatch, for example '--gpus-per-node=8 --nodes=2 --time=04:00:00 --partition=gpu'.

    Raises:
      UserError: options that cannot be split into words; sbatch is missing, or refuses.
    """
    try:
        words = shlex.split(options)
    except ValueError as e:
        raise UserError(f"--slurm={options!r}: {e}") from e
    command = task_command(arguments, place)
    script = job(command, place, programs, words)
    say(script)
    report = shlex.join(command)
    if programs:
        say(f"# then, when every program is done:\n# {report}")
    if dry_run:
        return
    if not is_address(place):
        Path(place).mkdir(parents=True, exist_ok=True)  # SLURM writes its output there
    number = _sbatch([], script)
    say(f"submitted  job {number}")
    if programs:
        table = _sbatch(
            [f"--dependency=afterok:{number}", *_header(place, "%j")], f"#!/bin/bash\n{report}\n"
        )
        say(f"submitted  job {table}: the table, when every program is done")
    say(f"watch it   python -m fexpr status {place}")


def task_command(arguments: Sequence[str], place: Path | str) -> list[str]:
    """The command line of a task: what was typed, with the full path of the run directory."""
    kept, words = [], iter(arguments)
    for word in words:
        name, equals, _ = word.partition("=")
        if not word.startswith("-") or "--" + name.lstrip("-") not in (*VALUED, *BARE):
            kept.append(word)
        elif not equals and "--" + name.lstrip("-") in VALUED:
            next(words, None)  # its value is a separate word
    return [
        sys.executable,
        str(Path(sys.argv[0]).resolve()),
        *kept,
        f"--workdir={place if is_address(place) else Path(place).resolve()}",
    ]


def job(command: Sequence[str], place: Path | str, programs: int, options: Sequence[str]) -> str:
    """The batch script. A task that ends with RESUMABLE, because SLURM signalled it to stop, is
    queued again.
    """
    if broken := [text for text in (*command, str(place), *options) if re.search("[\n\r\0]", text)]:
        raise UserError(
            "a batch script cannot contain line breaks in paths or options",
            [repr(text) for text in broken],
            "rename the run directory, or change the option",
        )
    nodes = _nodes(options)
    line = (
        shlex.join(command)
        + (" --program=$SLURM_ARRAY_TASK_ID" if programs else "")
        + (" --hosts=auto" if nodes > 1 else "")
    )
    header = [
        *_header(place, "%A_%a" if programs else "%j"),
        *([f"--array=0-{programs - 1}"] if programs else []),
        *(["--ntasks-per-node=1"] if nodes > 1 else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=TERM@{WARNING}",
        *options,
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {shlex.quote(option)}" for option in header),
            f"srun {line}",
            "code=$?",
            f'[ $code = {RESUMABLE} ] && scontrol requeue "$SLURM_JOB_ID"  # it saved its '
            "state: the same job goes on from there",
            "exit $code",
            "",
        ]
    )


def _header(place: Path | str, number: str) -> list[str]:
    """SLURM writes its output into the run directory; of one at an address, into the folder that
    the job is submitted from.
    """
    folder = Path.cwd() if is_address(place) else Path(place).resolve()
    name = re.sub(r"[^\w.-]+", "_", Path(place).name)
    # SLURM fills in what follows a %
    output = f"{str(folder).replace('%', '%%')}/slurm-{number}.txt"
    return [f"--job-name=fexpr-{name}", f"--output={output}"]


def _nodes(options: Sequence[str]) -> int:
    for word, following in itertools.pairwise([*options, ""]):
        text = (
            word.removeprefix("--nodes=")
            if word.startswith("--nodes=")
            else following
            if word in ("-N", "--nodes")
            else ""
        )
        if text:
            return int(text.partition("-")[0]) if text.partition("-")[0].isdigit() else 1
    return 1


def _sbatch(options: Sequence[str], script: str) -> str:
    """Submits; the job's number."""
    if not shutil.which("sbatch"):
        raise UserError(
            "there is no sbatch on this machine",
            fix="submit from a login node of the cluster, or look at it with --dry_run",
        )
    done = subprocess.run(
        ["sbatch", "--parsable", *options],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(
            f"sbatch refuses the job: {done.stderr.strip() or done.stdout.strip()}",
            fix="change its options: --slurm='...'",
        )
    return done.stdout.strip().partition(";")[0]
