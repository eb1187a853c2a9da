"""What tests of several loaders stand on."""

import pytest

from fexpr.data.preparation import flow


@pytest.fixture
def no_release(tmp_path, monkeypatch):
    """A home folder of the test's own, and no data root: no release is found that the test has not
    written.
    """
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FEXPR_DATA_DIR", raising=False)


@pytest.fixture
def counted(monkeypatch):
    """The frame pairs that flow was computed for."""
    pairs = []
    compute = flow.flow_map
    monkeypatch.setattr(flow, "flow_map", lambda *a: (pairs.append(a), compute(*a))[1])
    return pairs
