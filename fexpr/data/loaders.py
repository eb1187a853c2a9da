"""The releases that a config may name: the functions that load them, and the fields they read."""

from __future__ import annotations

import dataclasses

from fexpr.config import Entry


@dataclasses.dataclass(frozen=True)
class Loader(Entry):
    """A function `config.data` -> Dataset, imported when it is first called.

    `reads`: fields of config.data beside those that concern every release (data_config.ALL_READ).
    `kind`: as of its Dataset. `side`: pixels of its images, where the release fixes them.
    """

    kind: str = "face"
    side: int | None = None


FACS = ("vocabulary", "min_positives", "alternatives", "references", "uncertain")
FLOW = ("layout", "align", "image_size", "synthetic_subjects")
ACTORS = ("synthetic_subjects", "synthetic_frames")
LOADERS = {
    "samm": Loader("fexpr.data.releases.samm:load", (*FLOW, *FACS), "flow"),
    "casme2": Loader("fexpr.data.releases.casme2:load", (*FLOW, *FACS), "flow"),
    "megc2019": Loader("fexpr.data.releases.megc2019:load", (*FLOW, "subsets", "regions"), "flow"),
    "fer2013": Loader("fexpr.data.releases.fer2013:load", ("labels", "map"), side=48),
    "ravdess": Loader("fexpr.data.releases.ravdess:load",
                      ("layout", "map", "clip_frames", "streamed", *ACTORS), side=48),
    "affectnet": Loader("fexpr.data.releases.affectnet:load", ("classes", "map", "streamed"),
                        side=48),
    "ravdess_aus": Loader("fexpr.data.releases.ravdess_aus:load",
                          ("features", "per_actor", *ACTORS), "features"),
}
