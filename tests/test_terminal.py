"""The log file: one JSON object per line, whoever writes it."""

import datetime
import errno
import io
import json
import logging
import sys
import time
import warnings

import pytest
from rich.table import Table

from fexpr import terminal
from fexpr.errors import UserError


@pytest.fixture
def lines(tmp_path):
    """Reads the log that is written from here on; it begins with a line that a kill cut short."""
    path, root = tmp_path / "log.jsonl", logging.getLogger()
    before = list(root.handlers), root.level
    path.write_text('{"time": "2026-')
    # another test's log may have left it on, to be shown where that test ran
    logging.captureWarnings(False)
    terminal.log_to(path, process=0)
    yield lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    for handler in set(root.handlers) - set(before[0]):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(before[1])
    logging.captureWarnings(False)


def test_a_record_is_one_line(lines):
    terminal.event("checkpoint saved", epoch=3, seconds=0.5)
    logging.getLogger("library").info("two\nlines, %d words", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("careful", UserWarning)
    ours, library, warned = lines()
    assert datetime.datetime.fromisoformat(ours.pop("time")).tzinfo
    assert ours == {
        "level": "INFO",
        "logger": "fexpr",
        "message": "checkpoint saved",
        "process": 0,
        "epoch": 3,
        "seconds": 0.5,
    }
    assert (library["logger"], library["message"]) == ("library", "two\nlines, 4 words")
    assert warned["level"] == "WARNING"
    assert "careful" in warned["message"]


def test_what_ends_a_command_stands_in_the_log(lines, capsys):
    def command(error):
        raise error

    assert terminal.exit_code(lambda: command(UserError("no such file", fix="give another"))) == 2
    with pytest.raises(ZeroDivisionError):
        terminal.exit_code(lambda: command(ZeroDivisionError("by zero")))
    mended, failed = lines()
    assert mended["message"] == "no such file\nWhat to do: give another"
    assert failed["exception"].endswith("ZeroDivisionError: by zero")
    assert "Traceback" not in capsys.readouterr().err


def test_a_path_that_cannot_be_used_is_one_message(tmp_path, capsys):
    assert terminal.exit_code(lambda: print((tmp_path / ("x" * 300)).is_dir())) == 2
    printed = capsys.readouterr().err
    assert "File name too long\nWhat to do: check the path" in printed

    def fail(error):
        raise error

    assert terminal.exit_code(lambda: fail(OSError(errno.EIO, "Input/output error"))) == 2
    assert "a file: Input/output error\nWhat to do: check the disk" in capsys.readouterr().err
    with pytest.raises(BlockingIOError):  # a fault of the program, not of a path
        terminal.exit_code(lambda: fail(BlockingIOError(errno.EAGAIN, "again", "x")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b]0;title\x07", "a\\x1b[31mred\\x1b]0;title\\x07"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("/data/\udcff.png", "/data/\\udcff.png"),
        ("two\nlines\tand [bold]é笑", "two\nlines\tand [bold]é笑"),
    ],
)
def test_names_of_files_move_no_cursor(text, shown, capsys):
    assert terminal.printable(text) == shown
    terminal.say(text)
    assert "\x1b" not in capsys.readouterr().out


def test_tables_and_bars_are_printable_too(capsys):
    console = terminal.PrintableConsole(width=80)
    table = Table("class")
    table.add_row("sm\x1b[2Jile")
    console.print(table)
    with terminal.progress("a\x1b[2J [bold]b", 1, on=console) as advance:
        advance(note="c\x1b[2J")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "sm\\x1b" in out
    assert "a\\x1b[2J [bo" in out


def test_a_terminal_without_unicode(tmp_path):
    with open(tmp_path / "out", "w", encoding="latin-1") as file:
        console = terminal.PrintableConsole(file=file, width=80)
        console.print("café 笑 −1", markup=False)
    assert (tmp_path / "out").read_text(encoding="latin-1") == "café \\u7b11 \\u22121\n"


def test_an_error_is_printed_once_also_where_a_library_gave_the_log_a_printer(capsys):
    """As importing Orbax does."""
    root = logging.getLogger()
    printer = logging.StreamHandler()  # to stderr
    root.addHandler(printer)

    def command():
        logging.getLogger("absl").error("what a library has to say")
        raise UserError("no such file")

    try:
        assert terminal.exit_code(command) == 2
        assert printer not in root.handlers
    finally:
        root.removeHandler(printer)
    assert capsys.readouterr().err == "no such file\n"


def test_what_a_terminal_cannot_show_is_a_question_mark(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))

    assert terminal.exit_code(lambda: print("left – right …")) == 0
    sys.stdout.flush()
    assert written.getvalue() == b"left ? right ?\n"


def test_ctrl_c_is_one_line(capsys):
    def interrupted(*words):
        raise KeyboardInterrupt(*words)

    assert terminal.exit_code(interrupted) == 130
    assert terminal.exit_code(interrupted, "the run resumes") == 130
    assert terminal.exit_code(lambda: interrupted("the rows so far are written")) == 130
    assert capsys.readouterr().err.splitlines() == [
        "interrupted: files that were not complete are not written",
        "interrupted: the run resumes",
        "interrupted: the rows so far are written",
    ]


def test_ctrl_c_in_a_callback_comes_again(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)

    class Callback:
        def __del__(self):
            raise KeyboardInterrupt

    def command():
        Callback()
        time.sleep(20)

    assert terminal.exit_code(command) == 130


def test_the_middle_of_a_long_value_is_left_out():
    """A cell of 30,000 characters is not printed as a whole."""
    text = UserError("workbook.xlsx", [f"row 3: {'4' * 30_000}: expected a unit"]).text()
    assert len(text) < 1200
    assert "row 3: 444" in text
    assert "(29,024 characters)" in text
    assert text.endswith(": expected a unit")
