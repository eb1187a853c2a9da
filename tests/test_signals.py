"""Signals that ask a command to stop."""

import importlib
import os
import signal
import sys
import time

import pytest

from fexpr import signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_are_named_and_given_back(number, capfd):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with signals.stop_signals() as stopped_by:
            assert stopped_by() == ""
            os.kill(os.getpid(), number)
            expected = "Ctrl-C" if number == signal.SIGINT else number.name
            assert stopped_by() == expected
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert ("Ctrl-C again ends at once" in capfd.readouterr().err) == (number == signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so():
    """As nohup ignores SIGHUP, and a shell SIGINT of what runs behind an &."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.stop_signals() as stopped_by:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopped_by() == ""
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_import_is_not_interrupted(tmp_path, monkeypatch):
    (tmp_path / "slow_library.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)

    def command():
        with signals.interrupts_after_imports():
            importlib.import_module("slow_library")
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert sys.modules.pop("slow_library").whole
    assert signal.getsignal(signal.SIGINT) is before
