"""Loads any release of clips with FACS codes as a data set for action-unit detection."""

from __future__ import annotations

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.prepare import resolve_source
from fexpr.data.releases import action_units, flow_clips, samm
from fexpr.data.releases.clip_release import Database
from fexpr.data.releases.skipped_clips import parse_skipped


def load(database: Database, config: ConfigDict, turn: int) -> Dataset:
    """Reads a release with a workbook, or its synthetic stand-in: a synthetic SAMM release, in
    SAMM's layout, of other subjects.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields).
      turn: is added to `config.synthetic_seed`, so that several stand-ins differ.

    Returns:
      One row per clip, sorted by id; see `action_units.dataset`.

    Raises:
      UserError: anything wrong with config, workbook or files; all problems of a kind at once,
          before any flow is computed.
    """
    skipped = parse_skipped(config.skip_clips)
    if resolve_source(config) == "synthetic":
        folder = samm.synthetic_release(
            config.synthetic_subjects, config.synthetic_clips, config.synthetic_seed + turn
        )
        release = flow_clips.survey(samm.SAMM, folder, config, skipped)
        return action_units.dataset(samm.SAMM, release, config, is_synthetic=True)
    release = flow_clips.survey(
        database, prepare.data_root(config)[0] / database.name, config, skipped
    )
    return action_units.dataset(database, release, config, is_synthetic=False)
