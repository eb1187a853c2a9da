"""CASME II (Yan et al., PLoS ONE 2014): frames, or published flow maps, and its coding workbook
(docs/data.md shows the layout).
"""

from __future__ import annotations

from ml_collections import ConfigDict

from fexpr.data.dataset import Dataset
from fexpr.data.preparation import prepare
from fexpr.data.preparation.prepare import resolve_source
from fexpr.data.releases import action_units, flow_clips, samm, workbook

CASME2 = flow_clips.Database(
    "casme2",
    "CASME II",
    (("Cropped", True), ("CASME2_RAW_selected", False), ("CASME2-RAW", False)),
    "{subject}_{clip}",
    workbook.CASME2.subject,
    workbook.CASME2,
    no_apex=("sub04_EP12_01f", "sub05_EP09_05f"),
)


def load(config: ConfigDict) -> Dataset:
    """Reads CASME II for action-unit detection; ids are 'sub01_EP02_01f', for its clip names repeat
    from subject to subject.

    Its synthetic stand-in is a synthetic SAMM release of other subjects, in SAMM's layout: the next
    seed's.

    Args:
      config: `config.data` (fexpr/data/data_config.py documents the fields).

    Returns:
      One row a clip, sorted by id; see `action_units.dataset`.

    Raises:
      UserError: anything wrong with config, workbook or files; all problems of a kind at once,
          before any flow is computed.
    """
    skipped = flow_clips.parse_skipped(config.skip_clips)
    if resolve_source(config) == "synthetic":
        folder = samm.synthetic_release(
            config.synthetic_subjects, config.synthetic_clips, config.synthetic_seed + 1
        )
        return action_units.dataset(
            samm.SAMM,
            flow_clips.survey(samm.SAMM, folder, config, skipped),
            config,
            is_synthetic=True,
        )
    release = flow_clips.survey(CASME2, prepare.data_root(config)[0] / CASME2.name, config, skipped)
    return action_units.dataset(CASME2, release, config, is_synthetic=False)
