"""The fields of `config.data`. Imports no library, so that a config is checked at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal

from fexpr.config import Problem, field
from fexpr.data.loaders import LOADERS, SYNTHETIC
from fexpr.data.releases.map_names import parse_maps

DUPLICATES = {  # kinds of copies (splits/duplicates.py) of held-out faces that a rule drops
    "keep": (),
    "drop_exact": ("exact",),
    "drop_near": ("exact", "near", "mirrored"),
}
WITH_COPIES = ("fer2013", "affectnet")  # releases of single faces with an official split
ALL_READ = (
    "name",
    "root",
    "source",
    "skip_clips",
    "leave_out",
    "duplicates",
    "synthetic_clips",
    "synthetic_seed",
)  # fields that every loader reads, or that are read for every release
UNLESS_DRAWN = "unless data.source='synthetic', which the variant :debug sets"


def _is_drawn_composite(data: DataConfig) -> bool:
    """Whether it is made of several releases that are synthetic, and always the same ones."""
    reads = getattr(LOADERS.get(data.name), "reads", None) or ()
    return data.source == "synthetic" and "subsets" in reads


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """which release, and how it is prepared."""

    name: str = field(
        "samm",
        "the data set: a release, in the folder of this name in the root, or "
        f"one of your own; one of {', '.join(LOADERS)}",
    )
    path: str = field(
        "",
        "of folder: <person>/<class>/*.jpg, or a CSV of path, label, group; '' = "
        "the folder 'folder' of the root",
        read_if=(UNLESS_DRAWN, lambda s: s.name != "folder" or s.source != "synthetic"),
    )
    root: str = field(
        "",
        "folder that holds the releases; '' = $FEXPR_DATA_DIR, else ~/fexpr_data",
        read_if=(UNLESS_DRAWN, lambda s: s.name not in SYNTHETIC or s.source != "synthetic"),
    )
    source: Literal["auto", "release", "synthetic"] = field(
        "auto", "'auto': the release if it is found, else synthetic", debug="synthetic"
    )
    layout: Literal["auto", "frames", "flow", "videos"] = field(
        "auto", "'auto': frames if there are any, else flow maps or videos"
    )
    align: Literal["auto", "landmarks", "detect", "none"] = field(
        "auto", "faces in raw frames: by landmarks.csv, by a detector, or as they are"
    )
    subsets: str = field(
        "auto",
        "for megc2018, megc2019 and cd6me: 'auto' takes those of their releases that are on the "
        "disk; or names: 'samm,casme2'",
        read_if=(UNLESS_DRAWN, lambda s: not _is_drawn_composite(s)),
    )
    maps: str = field(
        "flow",
        "flow maps of a clip, stacked as channels: folders beside flow/, as "
        "'flow,flow_causal_0'; made of frames: 'flow' is onset to apex, 'flow_40' onset to the "
        "frame 40 % of the way to the offset",
        form=("'flow' or names 'flow_…', each once", parse_maps),
    )
    map_scale: Literal["minmax", "signed"] = field(
        "minmax",
        "of maps made from frames: each channel scaled from its smallest to its largest value, "
        "like published ones, or "
        "'signed', which keeps the level of no motion",
    )
    regions: Literal["whole", "landmarks"] = field(
        "whole", "of megc2019: the whole face, or two eyes and two mouth corners, joined"
    )
    image_size: int = field(
        28, "side of the square flow map or face, pixels; images of folder are resized to it", ge=8
    )
    colours: Literal["grey", "rgb"] = field("grey", "of folder: channels of the images")
    vocabulary: str = field(
        "data",
        "action units to detect: 'data' (see min_positives), 'notebook25', or numbers, for example "
        "'4,7,12'",
    )
    min_positives: int = field(
        5, "'data': units with at least this many positive clips", ge=1, debug=2
    )
    alternatives: Literal["first", "all", "none"] = field("first", "what `L12 or L14` counts as")
    references: Literal["absent", "present"] = field(
        "absent", "what `ref(7B)`, present at onset already, counts as"
    )
    uncertain: Literal["present", "absent"] = field("present", "what `15?` counts as")
    labels: Literal["fer2013", "ferplus", "ferplus_majority"] = field(
        "fer2013",
        "the release's own, or ten annotators' in eight classes: ferplus keeps the answer with the "
        "most votes, ferplus_majority (Microsoft's, of published figures) drops single votes, then "
        "rows without a majority over half",
    )
    classes: Literal["8", "7", "polarity"] = field(
        "7",
        "of AffectNet: 7 are without contempt; polarity of the valence: neutral, positive, "
        "negative",
    )
    map: Literal["none", "saliency", "spectral", "landmarks"] = field(
        "none", "second channel: saliency from its folder, else spectral"
    )
    clip_frames: int = field(
        0,
        "frames of a clip, evenly sampled, that are one row (model "
        "deep_emotion_clips); 0: a row per frame",
        ge=0,
    )
    features: Literal["both", "intensities", "presences"] = field(
        "both", "averaged action units that are the features"
    )
    per_actor: Literal["none", "center", "standardize", "standardize_others"] = field(
        "none",
        "scale features by all clips of an actor (uses no labels, but needs several clips), or by "
        "the actor's other clips",
    )
    streamed: bool = field(
        False, "images stay on the disk and are read as they are needed, for sets beyond memory"
    )
    skip_clips: str = field(
        "",
        "clips left out on purpose: '032_3_1,028_4_1'",
        read_if=(UNLESS_DRAWN, lambda s: not _is_drawn_composite(s)),
    )
    duplicates: str = field("keep", "training copies of held-out faces", one_of=DUPLICATES)
    leave_out: str = field("", "classes whose rows are left out, for example 'surprise,disgust'")
    synthetic_subjects: int = field(24, "people of the synthetic release", ge=3, debug=6)
    synthetic_clips: int = field(160, "its clips, or images", ge=3, debug=24)
    synthetic_frames: int = field(20, "frames of its clips, of RAVDESS", ge=5)
    synthetic_seed: int = field(0, "which synthetic release", ge=0)

    def problems(self) -> Iterator[Problem]:
        if self.streamed and self.clip_frames:
            yield Problem(
                "clip_frames", self.clip_frames, "0 with data.streamed, as clips are held in memory"
            )
        if self.streamed and self.duplicates != "keep":
            yield Problem(
                "streamed", self.streamed, "False with data.duplicates, as all images are compared"
            )
