"""SSSNet on the MEGC2018 composite: SAMM and CASME II in five objective classes, leave one subject
out.

python launch.py --config=configs/sssnet_megc2018.py            # leave one subject out
python launch.py --config=configs/sssnet_megc2018.py:holdout    # train on one, test the other

The challenge's two protocols: composite database evaluation, and holdout-database evaluation, whose
two folds the challenge averages. Training as in sssnet_megc2019. SAMM's workbook gives the class;
of CASME II it follows from the action units (docs/data.md), so its workbook is needed too.

Not measured.
"""

from configs import base, sssnet_megc2019

VARIANTS = ("", "holdout", "debug")


def get_config(variant: str = ""):
    base.one_of_variants(variant, VARIANTS)
    config = sssnet_megc2019.get_config("debug" if variant == "debug" else "")
    config.data.name = "megc2018"
    if variant == "holdout":
        config.split.protocol = "leave_one_dataset_out"
    return config
