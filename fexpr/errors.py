"""The one exception that is meant for the user: launch.py prints it without a traceback and exits with code 2."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend: a file, a row, a config field.

    Args:
      title: one sentence that names the file or setting and what is wrong with it.
      problems: every problem found, one line each (where, what was expected, what was found). Never only the first.
      fix: what to do about it.
    """

    def __init__(self, title: str, problems: Sequence[str] = (), fix: str = ""):
        self.title, self.problems, self.fix = title, tuple(problems), fix
        super().__init__(self.text())

    def text(self, limit: int = 50) -> str:
        """The whole message; more than `limit` problems are counted rather than listed."""
        lines = [self.title, *(f"  - {p}" for p in self.problems[:limit])]
        if len(self.problems) > limit:
            lines.append(f"  … and {len(self.problems) - limit} more")
        if self.fix:
            lines.append(f"What to do: {self.fix}")
        return "\n".join(lines)
