"""The exceptions that are meant for the user: launch.py prints them without a traceback. A
UserError exits with code 2.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 1000  # characters of a problem that are shown
# exit code (EX_TEMPFAIL of sysexits.h): the same command resumes where this one stopped
RESUMABLE = 75
INTERRUPTED = 130  # exit code of Ctrl-C, as in shells


class Preempted(Exception):
    """The run was asked to stop by a signal, and has saved its state.

    `code`: the exit code; INTERRUPTED after Ctrl-C.
    """

    def __init__(self, text: str, code: int = RESUMABLE):
        super().__init__(text, code)
        self.code = code

    def __str__(self) -> str:
        return self.args[0]


class UserError(Exception):
    """Something the user can fix: a file, a row, a config field.

    Args:
      title: one sentence that names the file or setting and what is wrong with it.
      problems: every problem found, one line each (where, what was expected, what was found). Never
          only the first.
      fix: what to do about it.
    """

    def __init__(self, title: str, problems: Sequence[str] = (), fix: str = ""):
        self.title, self.problems, self.fix = title, tuple(problems), fix
        super().__init__(self.text())

    def __reduce__(self):
        # keeps all arguments when it is pickled between processes
        return UserError, (self.title, self.problems, self.fix)

    def text(self, limit: int = 50) -> str:
        """The whole message; of more than `limit` problems, the rest are only counted, and of a
        problem that quotes a long value the middle is left out.
        """
        lines = [shortened(self.title), *(f"  - {shortened(p)}" for p in self.problems[:limit])]
        if len(self.problems) > limit:
            lines.append(f"  … and {len(self.problems) - limit} more")
        if self.fix:
            lines.append(f"What to do: {self.fix}")
        return "\n".join(lines)


def shortened(text: str) -> str:
    """The text, without its middle if it is longer than LONGEST: its ends say where the problem
    is, and what was expected.
    """
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    half = LONGEST // 2
    return f"{text[:half]} … ({left_out:,} characters) … {text[-half:]}"
