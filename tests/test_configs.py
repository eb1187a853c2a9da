"""Every config file loads, in both variants, with values that can be used."""

import importlib
import re
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


@pytest.mark.parametrize("name", [n for n in NAMES if n != "base"])
def test_a_docstring_is_a_ledger(name):
    """The command, and measured values that docs/results.md holds, or that nothing was measured."""
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"python launch.py --config=configs/{name}.py" in text
    assert re.search(r"\b[Nn]ot measured|\bMeasured 20\d\d-\d\d-\d\d|Drawn actors .*20\d\d-\d\d-\d\d", text)
    results = (Path(__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    ledger = text[re.search(r"Measured 20|[Nn]ot measured|Drawn actors|$", text).start():]
    figures = re.findall(r"20\d\d-\d\d-\d\d|\d+\.\d+(?: \([\d.]+–[\d.]+\)| ± [\d.]+)?|\d+ (?:s|min)\b", ledger)
    assert not [figure for figure in figures if figure not in results]
