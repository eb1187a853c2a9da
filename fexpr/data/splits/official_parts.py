"""A release's own training and test parts, on which the field reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from fexpr.config import allowed
from fexpr.data.splits.split_config import SplitConfig
from fexpr.errors import UserError

if TYPE_CHECKING:  # checked in the tests (tests/conftest.py)
    from jaxtyping import Int, Shaped

# AffectNet only has the last, on which the field tests
TRAINING, TESTS = "Training", ("PublicTest", "PrivateTest", "Validation")


def official_rows(
    config: ConfigDict, parts: Shaped[np.ndarray, " N"] | None, classes: Shaped[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, " fit"], Int[np.ndarray, " select"], Int[np.ndarray, " test"]]:
    """Row numbers to fit, to select and to test, each ascending.

    Args:
      config: `config.split`. `val`: 'training' holds `val_fraction` of Training out (scikit-learn's
          StratifiedShuffleSplit, random_state
        `seed`); 'PublicTest' validates on that part, and fits all of Training; 'none' fits all of
        Training without validation. `test`: a part, 'both', or 'auto': every test part that does
        not validate.
      parts: str [N], the release's own split, or None.
      classes: [N], what to stratify by.

    Raises:
      UserError: the release has no such parts, or lacks those requested; one part is to validate
          and to test; a class of one image.
    """
    for name, value in (("val", config.val), ("test", config.test)):
        if value not in (known := allowed(SplitConfig, name)):
            raise UserError(
                f"config.split.{name} is {value!r}", fix=f"set it to one of {', '.join(known)}"
            )
    found = [] if parts is None else [part for part in (TRAINING, *TESTS) if (parts == part).any()]
    if parts is None or TRAINING not in found or len(found) < 2:
        raise UserError(
            "split.protocol=official needs a release with training and test parts of its own",
            [f"found: {', '.join(found) or 'no parts'}"],
            "use fer2013 or affectnet, or another protocol",
        )
    tests = {
        "auto": [part for part in found if part in TESTS and part != config.val],
        "both": TESTS[:2],
    }.get(config.test, [config.test])
    if config.val in tests:
        raise UserError(
            f"split.val={config.val}: this part validates, so it cannot also be tested, as by "
            f"split.test={config.test}",
            fix="set split.val=training, or split.test to the other part",
        )
    missing = [
        part
        for part in dict.fromkeys((config.val, *tests))
        if part not in (*found, "training", "none")
    ]
    if missing or not tests:
        text = (
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not there"
            if missing
            else "no part is left for testing"
        )
        raise UserError(
            f"split.val={config.val}, split.test={config.test}: {text}",
            [f"found: {', '.join(found)}"],
            "add the missing part to the release (docs/data.md), or choose parts that it has",
        )
    train, test = np.flatnonzero(parts == TRAINING), np.flatnonzero(np.isin(parts, tests))
    if config.val == "none":
        return train, train[:0], test
    if config.val != "training":
        return train, np.flatnonzero(parts == config.val), test
    from sklearn.model_selection import StratifiedShuffleSplit

    try:
        draw = StratifiedShuffleSplit(1, test_size=config.val_fraction, random_state=config.seed)
        fit, select = next(draw.split(train, classes[train]))
    except ValueError as e:  # a class of one image, or fewer images than classes on one side
        raise UserError(
            f"split.val_fraction={config.val_fraction} of {len(train):,} training images: {e}",
            fix="use more images (of a synthetic set: data.synthetic_clips), or another fraction",
        ) from e
    return train[np.sort(fit)], train[np.sort(select)], test
