"""A point of a sweep that diverges is listed as failed; the others are trained, reported and ranked
as if it were not there.
"""

import math

import pytest

from fexpr.storage import run
from tests.launching import ROOT, launch


@pytest.mark.long
def test_a_diverging_point_fails_alone(tmp_path, shared_cache):
    arguments = (
        f"--config={ROOT}/configs/aucnn_samm.py:debug",
        "--config.evaluate.resamples=20",
        "--config.log.tensorboard=False",
        f"--workdir={tmp_path / 'sweep'}",
        "--sweep=optimizer.learning_rate=1e-3,1e30,1e-2",
    )
    done = launch(tmp_path, shared_cache, *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    # one program: the failure is beside the others, not after them
    assert "program    1 of 1: 3 points" in done.stdout
    table = run.read_json(tmp_path / "sweep" / "sweep.json")
    points = {p["settings"]["optimizer.learning_rate"]: p for p in table["points"]}
    assert points.keys() == {1e-3, 1e-2, 1e30}
    assert table["points"][-1] is points[1e30]  # the others stand above it
    assert {rate: p["failed"] for rate, p in points.items()} == {1e-3: 0, 1e-2: 0, 1e30: 1}
    assert sorted(points[rate]["rank"] for rate in (1e-3, 1e-2)) == [1, 2]
    assert points[1e30]["rank"] is None
    for rate in (1e-3, 1e-2):
        for part in ("val", "test"):
            for name in ("macro_f1", "nll"):
                assert math.isfinite(points[rate][part][name]["value"])
        metrics = run.read_json(f"{points[rate]['run_dir']}/{run.METRICS}")
        assert metrics["trials"]["failed"] == []
    lost = run.read_json(f"{points[1e30]['run_dir']}/{run.METRICS}")
    # scores of a failed trial are undefined, never a number
    assert lost["test"]["nll"]["value"] is None
    assert len(lost["trials"]["failed"]) == 1
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert page.count('<tr class="lost">') == 1
    assert "1e+30" in page
    assert "1e+30" in done.stdout
