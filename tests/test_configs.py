"""Every config file loads, in both variants, with values that can be used."""

import importlib
from pathlib import Path

import pytest

from configs import base

NAMES = sorted(p.stem for p in (Path(__file__).parents[1] / "configs").glob("*.py") if "def get_config(" in p.read_text())


@pytest.mark.parametrize("variant", base.VARIANTS)
@pytest.mark.parametrize("name", [n for n in NAMES if n != "base"])
def test_a_config_can_be_used(name, variant):
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    base.validate(config)
    for section in ("data", "split", "train", "optimizer", "augment", "evaluate", "log"):
        assert set(config[section]) == set(base.get_config()[section]), "a section was replaced instead of updated"
    assert config.is_locked


def test_help_names_every_config():
    text = base.describe()
    assert all(f"configs/{name}.py" in text for name in NAMES if name != "base")
    assert "augmentations" not in text
