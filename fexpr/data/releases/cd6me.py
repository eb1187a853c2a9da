"""CD6ME (Varanka et al., arXiv 2211.11425): action units in micro-expressions of six releases, as
many of them as are on the disk.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ml_collections import ConfigDict

from fexpr import facs
from fexpr.data.dataset import Dataset
from fexpr.data.preparation.prepare import resolve_source
from fexpr.data.releases import composite, flow_clips, workbook
from fexpr.data.releases.casme import CASME
from fexpr.data.releases.casme2 import CASME2
from fexpr.data.releases.casme3a import CASME3A
from fexpr.data.releases.clip_release import Database, Release
from fexpr.data.releases.four_dme import FOUR_DME
from fexpr.data.releases.mmew import MMEW
from fexpr.data.releases.samm import SAMM
from fexpr.terminal import say

DATABASES = {database.name: database for database in (CASME, CASME2, SAMM, FOUR_DME, MMEW, CASME3A)}
# clips of the published benchmark
CLIPS = {"casme": 189, "casme2": 256, "samm": 159, "4dme": 267, "mmew": 300, "casme3a": 860}


def load(config: ConfigDict) -> Dataset:
    """Reads the releases that have a workbook; flow maps are made once for each and kept in the
    cache.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields).

    Returns:
      One row per clip, release after release: images uint8 [N, S, S, 3 x maps], labels float32 [N,
      12] (intensity of the units of `facs.CD6ME`); groups, ids and extras as in
      `composite.Rows.dataset`.

    Raises:
      UserError: anything wrong with config, workbooks or files; all problems of one kind in one
          release are listed together.
    """
    is_synthetic = resolve_source(config) == "synthetic"
    if is_synthetic:
        releases = composite.synthetic(config, None)
    else:
        databases = composite.with_workbooks(config, DATABASES)
        releases = composite.surveys(config, databases, partial(_survey, config))
    policy = facs.Policy(config.alternatives, config.references, config.uncertain)
    intensities = [
        facs.intensities(code, policy)
        for release in releases.values()
        for code in facs.parse_all(
            release.table["code"].tolist(), workbook.places(release.table, release.inputs[0])
        )
    ]
    rows = composite.read(releases, config.image_size, is_synthetic)
    if not is_synthetic:
        for name, clips in rows.table.groupby("dataset", sort=False).size().items():
            expected = CLIPS[str(name)]
            if clips != expected:
                say(f"{name} has {clips} clips, the benchmark {expected}", style="yellow")
    return rows.dataset(facs.label_matrix(intensities, facs.CD6ME), facs.names(facs.CD6ME))


def _survey(config: ConfigDict, database: Database, folder: Path, skipped: set[str]) -> Release:
    return flow_clips.survey(database, folder, config, skipped)
