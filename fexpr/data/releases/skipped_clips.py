"""Clips that the user leaves out on purpose: `config.data.skip_clips`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fexpr.errors import UserError

SKIP = "list clips to leave out in config.data.skip_clips"


def parse_skipped(text: str) -> set[str]:
    """Parses '032_3_1, 028_4_1' into a set."""
    return {clip.strip() for clip in text.split(",") if clip.strip()}


def leave_out(table: pd.DataFrame, skipped: set[str], source: Path) -> pd.DataFrame:
    """The rows whose `id` is not skipped, sorted by `id`.

    Raises:
      UserError: an id that does not exist; `source` is where the table comes from.
    """
    unknown = sorted(skipped - set(table["id"]))
    if unknown:
        raise UserError(
            f"config.data.skip_clips names clips that are not among those of {source}",
            unknown,
            "correct the names",
        )
    return table[~table["id"].isin(skipped)].sort_values("id", ignore_index=True)
