"""Named augmentation recipes, by the fields of config.augment:
`config.augment.update(PRESETS["strong"])`.

Imports nothing, so that --help stays fast. A preset sets only the fields that it names.

keras_notebook: ImageDataGenerator(rotation_range=15, zoom_range=.15, width_shift_range=.1,
height_shift_range=.1, horizontal_flip=True)
  with its fill_mode 'nearest', which is ours too. A tenth of 48 pixels is 4.8: 5 here, as
  config.augment.shift counts whole pixels.

pytorch_notebook: albumentations' VerticalFlip(p=.25) and Rotate(limit=22, p=.5) as its author
describes them. Two things differ from what
  that notebook computed. Its border was mirrored (albumentations' BORDER_REFLECT_101 of the time);
  here it is repeated. And it handed its images over as 1x48x48 to a library that reads height x
  width x channels: one row of 48 pixels with 48 channels. So its flip did nothing and its rotation
  by t stretched the faces vertically by 1/cos(t), 8 % at most (the sample that it prints shows it:
  its rows are mixed with the next ones, its columns are not). A published figure of that notebook
  is one without upside-down or tilted faces.

strong: for networks that would memorise the training faces. In the ranges of Khaireddin & Chen 2021
(arXiv 2105.03588, 73.3 % on FER2013:
  rotation 10 degrees, rescaling and shifts up to 20 %, random erasing), with light added; the
  square hides an eye or most of a mouth, never both. Mixup is a field of its own.

residual: the public recipe of residual networks on FER2013 (github.com/usef-kh/fer,
github.com/LetheSec/Fer2013-Facial-Emotion-Recognition-
  Pytorch: scale, shift, rotation and light, each half of the time, crops of 40, erasing, mixup),
      with alternating flips. The last tenth of
  the epochs is free of mixup.
"""

PRESETS = {
    "none": {},
    "keras_notebook": {"flip": 0.5, "rotation": 15.0, "zoom": 0.15, "shift": 5},
    "pytorch_notebook": {"vertical_flip": 0.25, "rotation": 22.0, "rotation_p": 0.5},
    "residual": {
        "alternate": True,
        "rotation": 10.0,
        "rotation_p": 0.5,
        "zoom": 0.2,
        "shift": 9,
        "shift_p": 0.5,
        "crop": 40,
        "contrast": 0.5,
        "brightness": 0.2,
        "light_p": 0.5,
        "erase": 0.5,
        "mixup": 1.0,
        "mixup_p": 0.5,
        "mixup_until": 0.9,
    },
    "strong": {
        "flip": 0.5,
        "rotation": 10.0,
        "zoom": 0.15,
        "shift": 4,
        "contrast": 0.2,
        "brightness": 0.2,
        "cutout": 14,
    },
}
