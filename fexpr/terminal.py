"""Output on the terminal: plain lines and one live progress bar. Everything else goes to the log
file.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import json
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import logging as absl_logging
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from fexpr import signals
from fexpr.errors import INTERRUPTED, Preempted, UserError

LOGGER = logging.getLogger("fexpr")
LOGGER.addHandler(logging.NullHandler())  # what no log takes is not printed either
# errors of a file system about a path, which only the user can mend
OF_FILES = frozenset(
    (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
)
OF_DISKS = frozenset((errno.EIO, errno.ESTALE))  # which often do not name the file
BANNER = "bold white on red"  # what must not be missed


def printable(text: str, encoding: str | None = None) -> str:
    r"""`text` made safe for a terminal. Names come from untrusted files: their control characters,
    which could move the cursor or retitle the window, and characters that `encoding` lacks are
    replaced by escapes ('\x1b'). Line breaks and tabs are kept.
    """
    shown = "".join(
        c if c in "\n\t" or not unicodedata.category(c).startswith("C") else ascii(c)[1:-1]
        for c in text
    )
    return shown.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


class PrintableConsole(Console):
    """A console that makes every text `printable`, also in tables and bars."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(segment.text, self.encoding)
            yield segment._replace(text=text)


console = PrintableConsole(highlight=False, soft_wrap=True)
# and for messages beside rows that go to standard output
errors = PrintableConsole(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "", style: str | None = None) -> None:
    """Prints one line. `text` is printed literally, except for control characters (`printable`);
    `style` colours the whole line (rich style names).
    """
    console.print(printable(text, console.encoding), style=style, markup=False)


@contextlib.contextmanager
def progress(
    description: str, total: float | None, done: float = 0, on: Console = console
) -> Iterator[Callable[..., None]]:
    """Shows one live line with a bar, a count, elapsed time and ETA.

    Yields a function `advance(n=1, note="")`; `note` is shown after the bar (a loss, a clip's
    name). `done` starts the bar partway, for resumed work; `total` None: unknown. Off a terminal
    only the finished line is printed.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=on) as bar:
        # Rich counts in floats, whatever its annotation
        task = bar.add_task(description, total=total, completed=done, note="")  # pyright: ignore[reportArgumentType]

        def advance(n: int = 1, note: str | None = None) -> None:
            fields: dict[str, Any] = {} if note is None else {"note": note}
            bar.update(task, advance=n, **fields)

        yield advance


def program(module: str) -> str:
    """The words that start this command, for messages: 'fexpr status' (set by fexpr/cli.py), or
    'python -m MODULE'.
    """
    typed = sys.argv[0]
    return typed if typed.partition(" ")[0] == "fexpr" else f"python -m {module}"


def quiet() -> None:
    """Keeps log messages of libraries off the terminal, also during their import."""
    # removing it is not enough: some libraries restore it
    absl_logging.get_absl_handler().setLevel(logging.CRITICAL + 1)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's "quiet"
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # warns of every broken image, which our messages name
        os.environ["OPENCV_LOG_LEVEL"] = "FATAL"
        if cv2 := sys.modules.get("cv2"):  # has read that already
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)


class _LogFile(logging.FileHandler):
    """Drops records that cannot be written: a full disk is reported once, by whatever needs to be
    saved.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        del record


class _Json(logging.Formatter):
    """A record as one line of JSON: time with its zone, level, logger, message; an event's own
    fields; the exception, if any.
    """

    def __init__(self, process: int | None):
        super().__init__()
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        time = (
            datetime.datetime.fromtimestamp(record.created)
            .astimezone()
            .isoformat(timespec="milliseconds")
        )
        line = {
            "time": time,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= self._process | getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to(path: Path, process: int | None = None) -> None:
    """Sends log messages and warnings of libraries, and `event`s, to the file `path` instead of an
    earlier one; appends one JSON object per line.

    Args:
      process: its number, if there are several.
    """
    root = logging.getLogger()
    for before in [h for h in root.handlers if isinstance(h.formatter, _Json)]:
        root.removeHandler(before)
        before.close()
    handler = _LogFile(path, encoding="utf-8")
    if path.stat().st_size:
        with open(path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n" and handler.stream:
                handler.stream.write("\n")  # a kill cut the last line short
    handler.setFormatter(_Json(process))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def event(name: str, **fields: object) -> None:
    """Logs an event of a run to the logger `fexpr`: its name is the message, its numbers are
    separate fields.
    """
    LOGGER.info(name, extra={"fields": fields})


def error(text: str) -> None:
    """Prints to stderr literally, except for control characters (`printable`)."""
    PrintableConsole(stderr=True, highlight=False, soft_wrap=True).print(
        text, style="bold red" if sys.stderr.isatty() else None, markup=False
    )


NOT_WRITTEN = "files that were not complete are not written"


def exit_code(command: Callable[[], int | None], interrupted: str = NOT_WRITTEN) -> int:
    """Runs a command: its own code, None for 0; 2 where the user has something to fix, which is
    printed as one message without a traceback; RESUMABLE if it was stopped and can be resumed;
    INTERRUPTED after Ctrl-C, with one line that says what is left: the KeyboardInterrupt's own
    words, or `interrupted`. Exceptions are also logged.
    """
    _keep_logs_off_terminal()
    for stream in (sys.stdout, sys.stderr):
        # characters that a terminal lacks are printed as '?'
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with signals.interrupts_after_imports():
            return command() or 0
    except UserError as e:
        LOGGER.error(e.text())
        error(e.text())
        return 2
    except Preempted as e:
        error(f"{e}: the same command resumes from there")
        return e.code
    except KeyboardInterrupt as e:
        error(f"interrupted: {e if e.args else interrupted}")
        return INTERRUPTED
    except OSError as e:
        LOGGER.exception("failed")
        if e.errno in OF_DISKS:
            fix = "check the disk, or the connection to it"
        elif e.errno in OF_FILES and e.filename is not None:
            fix = "check the path and its permissions"
        else:
            raise
        error(UserError(f"{e.filename or 'a file'}: {e.strerror}", fix=fix).text())
        return 2
    except Exception:
        LOGGER.exception("failed")
        raise


def _keep_logs_off_terminal() -> None:
    """Sends all log records, also those of libraries, only to the run's log file: importing Orbax
    gives the root logger a handler that prints, and a logger without handlers prints warnings. So
    do exceptions that cannot be raised.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        # exactly this class: subclasses belong to other files and tests
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _not_raised


def _not_raised(raised: sys.UnraisableHookArgs) -> None:
    """Logs errors that cannot be caught: TensorStore's threads raise them after a failed write; and
    JAX's callback of garbage collections Ctrl-C, which would get lost there.
    """
    if raised.exc_type is KeyboardInterrupt:
        signals.interrupt_later()
        return
    LOGGER.warning(
        "in a library: %s",
        raised.err_msg,
        exc_info=raised.exc_value and (raised.exc_type, raised.exc_value, None),
    )
