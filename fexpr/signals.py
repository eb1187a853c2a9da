"""Signals that ask a command to stop."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from fexpr.errors import INTERRUPTED

LATER = 0.1  # seconds until Ctrl-C is tried again where it cannot be raised


@contextlib.contextmanager
def interrupts_after_imports() -> Iterator[None]:
    """Within the block Ctrl-C waits for the end of an import: C++ code that is being loaded
    swallows the exception, or ends the process with SIGABRT. Only in the main thread, and where
    nothing else takes the signal.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _outside_imports)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _outside_imports(number: int, frame: FrameType | None) -> None:
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib."):
            return interrupt_later()
        outer = outer.f_back
    return signal.default_int_handler(number, frame)


def interrupt_later() -> None:
    """Ctrl-C comes again in a moment."""
    # a signal, as it also ends a wait, which `_thread.interrupt_main` does not; Ctrl-C is raised in
    # the main thread, so that this is the main thread
    main = threading.get_ident()
    timer = threading.Timer(LATER, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.daemon = True  # a command that ends before has nothing to stop
    timer.start()


@contextlib.contextmanager
def noted_interrupt(then: Callable[[], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C came. Within the block the first one only calls
    `then`, so that results until then can be written; a second one is raised.
    """
    before, came = signal.getsignal(signal.SIGINT), False

    def note(*_: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)
        if then:
            then()

    if before in (signal.SIG_IGN, None):
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)


CTRL_C = "Ctrl-C"
STOPPING = b"\nstopping: the state is saved first, which takes seconds; Ctrl-C again ends at once\n"
AT_ONCE = b"\nended at once: the same command goes on from the checkpoint before\n"


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], str]]:
    """Yields a function that names the signal that asks to stop ('SIGTERM', 'SIGHUP', 'Ctrl-C'), ''
    while there is none; until the block ends, the signals do nothing else, except that a second
    Ctrl-C ends the process. Signals that are ignored (nohup) remain ignored. In threads nothing
    changes.
    """
    came: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return

    def note(number: int, _: object) -> None:
        if number == signal.SIGHUP:
            _detach_lost_terminal()
        # written directly, as the streams may be in the middle of a line
        elif number == signal.SIGINT and came:
            os.write(2, AT_ONCE)
            os._exit(INTERRUPTED)
        elif number == signal.SIGINT:
            os.write(2, STOPPING)
        came.append(CTRL_C if number == signal.SIGINT else signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {n: signal.getsignal(n) for n in numbers}
    for number in numbers:
        if before[number] not in (signal.SIG_IGN, None):
            signal.signal(number, note)
    try:
        yield lambda: came[0] if came else ""
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _detach_lost_terminal() -> None:
    """If the terminal is gone, discards output instead of raising an error."""
    for stream in (1, 2):
        try:
            os.tcgetpgrp(stream)
        except OSError as e:
            if e.errno == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
