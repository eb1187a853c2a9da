"""VGGFace2's ResNet50 (rcmalli_vggface_tf_notop_resnet50.h5, from a local file) on FER2013:
fine-tuned, or (:features) frozen.

# frozen backbone computed once per image; only the head is trained
python launch.py --config=configs/resnet50_fer2013.py:features
# all layers, frozen batch norms; for an accelerator
python launch.py --config=configs/resnet50_fer2013.py

docs/data.md (Weights) says where the file comes from and where to put it. The network of Angel 2021
(dense 1024, 0.72 on PrivateTest), which subtracted 128.8 from RGB images; here they are B, G, R
minus VGGFace2's own mean.

Not measured: the published weights were not available.
"""

from configs import base, vgg16_fer2013

VARIANTS = ("", "features", "debug")


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = vgg16_fer2013.get_config(variant)
    config.model = {
        "name": "vggface_resnet50",
        "image_size": 224,
        "hidden": (1024,),
        "dropout": 0.0,
        "remat": variant != "features",
    }
    config.optimizer.rates, config.optimizer.freeze = "", "" if variant == "features" else "_bn/"
    config.init.from_file = "rcmalli_vggface_tf_notop_resnet50.h5"
    if variant == "debug":
        config.init.from_file = ""
        config.model.update({"width": 4, "blocks": (1, 1), "hidden": (8,), "image_size": 32})
    return config
