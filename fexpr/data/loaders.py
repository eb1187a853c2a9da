"""The data sets that a config may name: the functions that load them, and the fields they read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from fexpr.config import Entry


@dataclasses.dataclass(frozen=True)
class Loader(Entry):
    """A function `config.data` -> Dataset, imported when it is first called.

    `reads`: fields of config.data beside those that concern every release (data_config.ALL_READ).
    `kind`: as in its Dataset. `side`: pixels of its images, where the release fixes them.
    `stands_in`: whether data.source='auto' uses its synthetic release if no release is found;
    otherwise it is used only on request.
    """

    kind: str = "face"
    side: int | None = None
    stands_in: bool = True


POLICY = ("alternatives", "references", "uncertain")
FACS = ("vocabulary", "min_positives", *POLICY)
FLOW = ("layout", "align", "image_size", "maps", "map_scale", "synthetic_subjects")
ACTORS = ("synthetic_subjects", "synthetic_frames")
# a user's own entries may also be functions or texts
LOADERS: dict[str, Loader | Entry | Callable | str] = {
    "samm": Loader("fexpr.data.releases.samm:load", (*FLOW, *FACS), "flow"),
    "casme2": Loader("fexpr.data.releases.casme2:load", (*FLOW, *FACS), "flow"),
    "casme": Loader("fexpr.data.releases.casme:load", (*FLOW, *FACS), "flow"),
    "casme3a": Loader("fexpr.data.releases.casme3a:load", (*FLOW, *FACS), "flow"),
    "mmew": Loader("fexpr.data.releases.mmew:load", (*FLOW, *FACS), "flow"),
    "4dme": Loader("fexpr.data.releases.four_dme:load", (*FLOW, *FACS), "flow"),
    "megc2018": Loader("fexpr.data.releases.megc2018:load", (*FLOW, "subsets"), "flow"),
    "cd6me": Loader("fexpr.data.releases.cd6me:load", (*FLOW, "subsets", *POLICY), "flow"),
    "megc2019": Loader("fexpr.data.releases.megc2019:load", (*FLOW, "subsets", "regions"), "flow"),
    "fer2013": Loader("fexpr.data.releases.fer2013:load", ("labels", "map"), side=48),
    "ravdess": Loader(
        "fexpr.data.releases.ravdess:load",
        ("layout", "map", "clip_frames", "streamed", *ACTORS),
        side=48,
    ),
    "affectnet": Loader(
        "fexpr.data.releases.affectnet:load", ("classes", "map", "streamed"), side=48
    ),
    "ravdess_aus": Loader(
        "fexpr.data.releases.ravdess_aus:load", ("features", "per_actor", *ACTORS), "features"
    ),
    "folder": Loader(
        "fexpr.data.releases.image_folder:load",
        ("path", "image_size", "colours", "streamed", "synthetic_subjects"),
        stands_in=False,
    ),
}
SYNTHETIC = frozenset(LOADERS)  # data sets that have a synthetic release; a user's own have none
