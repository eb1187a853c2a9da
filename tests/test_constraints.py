"""constraints.txt pins everything that is asked for, within the ranges that are asked for."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.launching import ROOT


def requirements(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(text) for line in lines if (text := re.sub(r"(#|-r ).*", "", line).strip())]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_within_its_range(python):
    where = {"python_version": python, "python_full_version": f"{python}.1"}
    pins = {
        canonicalize_name(pin.name): pin.specifier
        for pin in requirements("constraints.txt")
        if pin.marker is None or pin.marker.evaluate(where)
    }
    wrong = []
    for wanted in (*requirements("requirements.txt"), *requirements("requirements-dev.txt")):
        pin = pins.get(canonicalize_name(wanted.name))
        version = next(iter(pin)).version if pin else None
        if not pin or not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted}: {pin or 'not pinned'}")
    assert not wrong, "run make constraints"
