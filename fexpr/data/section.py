"""The fields of `config.data`: type, default, unit, meaning. What the loaders read."""

from __future__ import annotations

from ml_collections import ConfigDict


def defaults() -> ConfigDict:
    data = ConfigDict(type_safe=True)
    data.name = "samm"  # a name of fexpr.data.loaders.LOADERS; the release lies under this name in the root
    data.path = ""  # of 'folder': <person>/<class>/*.jpg, or a CSV of path, label, group; '' = the folder 'folder' of the root
    data.root = ""  # folder that holds the releases; '' = $FEXPR_DATA_DIR, else ~/fexpr_data
    data.source = "auto"  # 'auto' (the release where it is found, else synthetic), 'release', 'synthetic'
    data.layout = "auto"  # 'auto' (frames where there are any, else flow maps or videos), 'frames', 'flow', 'videos'
    data.align = "auto"  # faces in raw frames: 'auto', 'landmarks' (landmarks.csv), 'detect', 'none' (frames as they are)
    data.subsets = "auto"  # of the composite megc2019: 'auto' (what is on the disk), or names: 'samm,casme2'
    data.regions = "whole"  # of the composite megc2019: 'whole' face, or 'landmarks' (two eyes, two mouth corners, joined)
    data.image_size = 28  # pixels, side of the square flow map; of 'folder': that images are resized to
    data.colours = "grey"  # of 'folder': 'grey' or 'rgb'
    data.vocabulary = "data"  # action units to detect: 'data' (see min_positives), 'notebook25', or numbers as '4,7,12'
    data.min_positives = 5  # 'data': units with at least this many positive clips
    data.alternatives = "first"  # what `L12 or L14` counts as: 'first', 'all', 'none'
    data.references = "absent"  # what `ref(7B)`, already there at onset, counts as: 'absent', 'present'
    data.uncertain = "present"  # what `15?` counts as: 'present', 'absent'
    data.labels = "fer2013"  # of FER2013: 'fer2013' (the release's) or 'ferplus' (majority of ten annotators, eight classes)
    data.classes = "7"  # of AffectNet: '8', '7' (without contempt), 'polarity' (of the valence: neutral, positive, negative)
    data.map = "none"  # second channel of ravdess, affectnet, fer2013: 'none', 'saliency' (folder, else spectral), 'spectral', 'landmarks'
    data.clip_frames = 0  # of ravdess: frames of a clip, evenly sampled, that are one row (model deep_emotion_clips); 0: a row a frame
    data.features = "both"  # of ravdess_aus: averaged 'intensities' and 'presences' of the action units, or 'both'
    data.per_actor = "none"  # of ravdess_aus: 'center' or 'standardize' them by all clips of an actor (no labels, but needs several clips)
    data.streamed = False  # of ravdess, affectnet, folder: images stay on the disk and are read as they are needed, for sets beyond memory
    data.skip_clips = ""  # clips left out on purpose, comma-separated: '032_3_1,028_4_1'
    data.duplicates = "keep"  # training copies of held-out faces: 'keep', 'drop_exact', 'drop_near'
    data.leave_out = ""  # classes whose rows are left out, as 'surprise,disgust'
    data.synthetic_subjects = 24  # of the built-in synthetic release
    data.synthetic_clips = 160
    data.synthetic_frames = 20  # of a synthetic RAVDESS clip
    data.synthetic_seed = 0
    return data
