"""Every synthetic release as its loader gives it, against fixtures: nothing about a data set changes
unseen. What is right about them is checked beside each loader.
"""

import numpy as np
import pytest

from configs import base
from fexpr.data import data_sets
from tests.evaluate.report.references import assert_as_stored
from tests.marks import keep_short

SMALL = {
    "source": "synthetic",
    "synthetic_subjects": 3,
    "synthetic_clips": 6,
    "synthetic_frames": 5,
    "min_positives": 1,
}
CASES = {
    "samm": {},
    "samm_signed": {"maps": "flow_50,flow", "map_scale": "signed", "vocabulary": "4,12"},
    "samm_alternatives": {"alternatives": "all", "references": "present", "uncertain": "absent"},
    "casme2": {},
    "casme": {},
    "casme3a": {},
    "mmew": {},
    "4dme": {},
    "megc2018": {"synthetic_clips": 6},
    "cd6me": {"synthetic_clips": 6},
    "megc2019": {"synthetic_clips": 6},
    "megc2019_regions": {"regions": "landmarks", "synthetic_clips": 6},
    "fer2013": {"synthetic_clips": 60},
    "fer2013_ferplus": {"synthetic_clips": 60, "labels": "ferplus", "map": "saliency"},
    "fer2013_majority": {"synthetic_clips": 60, "labels": "ferplus_majority", "map": "spectral"},
    "ravdess": {},
    "ravdess_clips": {"clip_frames": 3, "map": "saliency"},
    "affectnet": {"classes": "8", "map": "spectral"},
    "affectnet_polarity": {"classes": "polarity"},
    "ravdess_aus": {},
    "ravdess_aus_scaled": {"features": "intensities", "per_actor": "standardize_others"},
    "folder": {"image_size": 16, "colours": "rgb"},
}


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory):
    """One cache for all cases: a release is drawn once."""
    return tmp_path_factory.mktemp("drawn")


def numbers(values):
    """Sum and sum weighted by place."""
    flat = np.nan_to_num(np.asarray(values, np.float64).ravel(), nan=-7.0)
    return f"{flat.mean():.3f} {flat @ np.linspace(0, 1, flat.size) / flat.size:.3f}"


def facts(data):
    yield f"{data.source} {data.kind} {data.images.dtype} {list(data.images.shape)}"
    yield f"classes {' '.join(data.class_names)}"
    for name in ("ids", "groups", "split"):
        yield f"{name} {' '.join(getattr(data, name)) if getattr(data, name) is not None else ''}"
    yield f"labels {data.labels.dtype} {' '.join(map(numbers, data.labels.T.reshape(-1, len(data.ids))))}"
    for channel in range(data.images.shape[3]):
        yield f"channel {numbers(data.images[:][..., channel])}"
    for name, values in sorted(data.extras.items()):
        whole = np.asarray(values)
        words = numbers(whole) if whole.dtype.kind in "biuf" else " ".join(map(str, whole.ravel()))
        yield f"{name} {whole.dtype.kind} {list(whole.shape)} {words}"


# they draw the same kind of release, each of its own seed; drawing takes seconds
DRAWN_ALIKE = ("casme2", "casme", "casme3a", "mmew", "4dme")
# samm's maps in other numbers, and collections of the releases above
ALIKE = {*DRAWN_ALIKE, "samm_signed", "megc2018", "cd6me"}


@pytest.mark.parametrize("case", keep_short(CASES, CASES.keys() - ALIKE))
def test_data_set(case, drawn_once, monkeypatch, capsys, no_release):
    monkeypatch.setenv("FEXPR_CACHE_DIR", str(drawn_once))
    config = base.get_config("debug")
    name = case if case in data_sets.LOADERS else case.rpartition("_")[0]
    config.data.update({"name": name, **SMALL, **CASES[case]})
    data = data_sets.load(config.data)
    # without progress, and the place of drawn releases
    printed = [
        f"printed {line}"
        for line in capsys.readouterr().out.splitlines()
        if "━" not in line
        and "eta" not in line.split()
        and str(drawn_once) not in line
        and case not in DRAWN_ALIKE
    ]
    assert_as_stored(f"data/{case}", [*facts(data), *printed])
