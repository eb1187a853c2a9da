"""The SAMM micro-expression release: frames, or published flow maps, and its FACS workbook
(docs/data.md shows the layout).
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.prepare import resolve_source
from fexpr.data.releases import action_units, flow_clips, workbook, workbook_format
from fexpr.data.releases.clip_release import Database
from fexpr.data.releases.skipped_clips import parse_skipped
from fexpr.data.synthetic import drawn_face, drawn_portrait, samm_clips
from fexpr.storage.run import cache_dir

SAMM = Database(
    "samm",
    "SAMM",
    (("SAMM", False), ("SAMM_Normalized_TM", True)),
    "{clip}",
    workbook_format.SAMM.subject,
    workbook_format.SAMM,
)


def load(config: ConfigDict) -> Dataset:
    """Reads SAMM, or the synthetic release in its layout; flow maps are made once and kept in the
    cache.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields).

    Returns:
      One row per clip, sorted by clip; see `action_units.dataset`.

    Raises:
      UserError: anything wrong with config, workbook or files; all problems of a kind at once,
          before any flow is computed.
    """
    is_synthetic = resolve_source(config) == "synthetic"
    counts = (config.synthetic_subjects, config.synthetic_clips, config.synthetic_seed)
    folder = (
        synthetic_release(*counts) if is_synthetic else prepare.data_root(config)[0] / SAMM.name
    )
    release = flow_clips.survey(SAMM, folder, config, parse_skipped(config.skip_clips))
    return action_units.dataset(SAMM, release, config, is_synthetic)


def synthetic_release(subjects: int, count: int, seed: int) -> Path:
    """The folder of the synthetic release with `count` clips, drawn on first use, and again when
    the code that draws it has changed.
    """
    code = b"".join(
        Path(inspect.getfile(module)).read_bytes()
        for module in (samm_clips, drawn_face, drawn_portrait, workbook)
    )
    name = "-".join(
        map(str, (SAMM.name, subjects, count, seed, hashlib.sha256(code).hexdigest()[:8]))
    )
    folder = cache_dir() / "synthetic" / name / SAMM.name
    with prepare.exclusive_lock(folder.parent):
        if not folder.exists():
            prepare.remove(folder.parent.glob(f".{SAMM.name}.*"))  # left by a killed process
            samm_clips.write_samm(folder, subjects, count, seed)
    return folder
