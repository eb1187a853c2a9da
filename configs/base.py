"""What the configs share: the fields with their defaults (fexpr/runs/schema.py), and settings of
several files.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

from ml_collections import ConfigDict

from fexpr.errors import UserError
from fexpr.runs.schema import VARIANTS as VARIANTS
from fexpr.runs.schema import describe, get_config
from fexpr.runs.schema import validate as validate

FOLDER = Path(__file__).parent


def one_of_variants(variant: str, variants: tuple[str, ...]) -> None:
    """For configs with variants of their own.

    Raises:
      UserError: unknown variant.
    """
    if variant not in variants:
        raise UserError(
            f"unknown config variant {variant!r}",
            fix=f"this config has {', '.join(repr(v) for v in variants if v)}",
        )


def fer2013(variant: str = "") -> ConfigDict:
    """The defaults of every classifier of FER2013: trains on Training, a tenth of which validates;
    tests on the official test parts.
    """
    config = get_config(variant)
    config.data.name, config.data.image_size = "fer2013", 48
    config.split.protocol, config.split.val_fraction = "official", 0.1
    config.train.loss, config.train.monitor, config.train.batch_size = (
        "cross_entropy",
        "accuracy",
        128,
    )
    config.data.synthetic_clips = 400 if variant == "debug" else 4000
    return config


def describe_all(topic: str, commands: str) -> str:
    """For --help: the commands and the config files with their first lines; or the fields of a
    section (`topic`), or of 'all'.
    """
    if topic:
        return describe(topic)
    lines = [commands.strip(), "Configs (--config=NAME, or a file, as configs/NAME.py):"]
    for path in sorted(FOLDER.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path.stem != "base" and "def get_config(" in source:
            text = ast.get_docstring(ast.parse(source)) or ""
            line = textwrap.shorten(text.partition("\n")[0], 74, placeholder=" …")
            lines.append(f"  {path.stem:<24}{line}")
    return "\n".join(lines)
