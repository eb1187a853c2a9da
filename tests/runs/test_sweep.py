"""What a dry run says about the points and programs of a sweep."""

import pytest

from configs import aucnn_samm
from fexpr.runs import sweep


@pytest.mark.parametrize(
    ("sweeps", "expected"),
    [
        ((), ""),
        (("seed=0",), "sweep      1 point: seed=0\n\nprogram    1 of 1: 1 point: seed=0\n"),
        (
            ("seed=0,1",),
            "sweep      2 points: seed=0,1\n\nprogram    1 of 1: 2 points: seed=0  seed=1\n",
        ),
    ],
)
def test_points_are_named_only_where_there_is_a_sweep(
    sweeps, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sweep, "_show", lambda group: None)
    sweep.sweep(aucnn_samm.get_config("debug"), tmp_path, sweeps, dry_run=True)
    assert capsys.readouterr().out == expected
