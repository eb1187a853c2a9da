"""A sweep is ordered by validation; a better test figure moves nothing."""

import io

import pytest
from rich.console import Console

from fexpr.evaluate.report import sweep_report
from fexpr.storage import run


def m(**values):
    return {
        name: {"value": v, "low": v - 0.05, "high": v + 0.05, "resamples": 9}
        for name, v in values.items()
    }


def point(name, val, test, failed=0, **settings):
    return {
        "name": name,
        "settings": settings,
        "run_dir": f"runs/{name}",
        "val": val,
        "test": test,
        "seconds": 61.0,
        "failed": failed,
    }


POINTS = [
    point("a", m(uf1=0.5, nll=0.9), m(uf1=0.9, nll=0.1), **{"optimizer.learning_rate": 1e-4}),
    point("b", m(uf1=0.7, nll=1.1), m(uf1=0.4, nll=0.8), 2, **{"optimizer.learning_rate": 3e-4}),
    point("lost", {}, {}, 52, **{"optimizer.learning_rate": 1e-1}),
    point(
        "c",
        m(uf1=0.6, nll=0.8),
        m(uf1=0.5, nll=0.9),
        **{"optimizer.learning_rate": 1e-3, "model.dim": 64},
    ),
]


@pytest.mark.parametrize(("monitor", "order"), [("uf1", "bca"), ("loss", "cab")])
def test_order_is_by_validation_whatever_the_test_says(monitor, order):
    result = sweep_report.ranked(POINTS, monitor)
    assert [p["name"] for p in result["points"]] == [*order, "lost"]
    assert [p["rank"] for p in result["points"]] == [1, 2, 3, None]
    turned = [p | {"test": m(uf1=1 - i / 10, nll=i)} for i, p in enumerate(POINTS)]
    assert [p["name"] for p in sweep_report.ranked(turned, monitor)["points"]] == [*order, "lost"]


def test_files(tmp_path):
    (tmp_path / "points/b").mkdir(parents=True)
    run.write_text(tmp_path / "points/b/report.html", "")
    points = [p | {"run_dir": str(tmp_path / "points" / p["name"])} for p in POINTS]
    page = sweep_report.write_sweep_report(tmp_path, points, "uf1", "megc2019@0").read_text(
        encoding="utf-8"
    )
    saved = run.read_json(tmp_path / "sweep.json")
    assert saved == sweep_report.ranked(points, "uf1") | {"source": "megc2019@0"}
    assert "Best by validation: b, with" in page
    assert (
        "best figure on test rows is 0.900, of a. Taking it would be choosing on test rows" in page
    )
    assert 'href="points/b/report.html"' in page
    assert page.count("href=") == 1
    assert page.count("<img ") == 1
    assert (
        page.index(">b</a>")
        < page.index(">c</td>")
        < page.index(">a</td>")
        < page.index('<tr class="lost">')
    )
    assert "optimizer.learning_rate</th><th>model.dim</th>" in page
    assert "SYNTHETIC" not in page
    assert not list(tmp_path.glob(".*"))


def test_synthetic_says_so_and_a_sweep_without_any_figure_is_reported(tmp_path):
    page = sweep_report.write_sweep_report(tmp_path, POINTS, "uf1", "synthetic").read_text(
        encoding="utf-8"
    )
    assert '<div class="banner">SYNTHETIC DATA' in page
    assert "<figcaption>SYNTHETIC DATA." in page
    page = sweep_report.write_sweep_report(
        tmp_path / "lost", POINTS[2:3], "uf1", "samm@0"
    ).read_text(encoding="utf-8")
    assert "No point has a validation figure" in page
    assert "<img " not in page


def test_terminal_table():
    out = io.StringIO()
    sweep_report.print_sweep(POINTS, "uf1", Console(file=out, width=40, soft_wrap=True))
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "–"]
    assert lines[0].split()[:2] == ["learning_rate", "dim"]
    assert "0.0003" in lines[1]
    assert "0.700 (0.650–0.750)" in lines[1]
    assert lines[4].split()[-1] == "52"
    assert "choosing on test rows" in lines[5]


SEEDS = [
    point("x0", m(uf1=0.9), m(uf1=0.1), seed=0, **{"model.dim": 8}),
    point("x1", m(uf1=0.5), m(uf1=0.3), 1, seed=1, **{"model.dim": 8}),
    point("y0", m(uf1=0.75), m(uf1=0.5), seed=0, **{"model.dim": 64}),
    point("y1", m(uf1=0.85), m(uf1=0.7), seed=1, **{"model.dim": 64}),
]


def test_settings_are_ranked_and_not_seeds():
    """The best single seed belongs to the worse setting."""
    first, second = sweep_report.ranked(SEEDS, "uf1")["points"]
    assert first["settings"] == {"model.dim": 64}
    assert first["name"] == "dim=64, 2 seeds"
    assert first["val"]["uf1"]["value"] == pytest.approx(0.8)
    assert first["val"]["uf1"]["seed_std"] == pytest.approx(0.1 / 2**0.5)
    assert first["test"]["uf1"]["low"] is None
    assert (second["failed"], second["seconds"]) == (1, 122.0)
    assert [seed["name"] for seed in second["seeds"]] == ["x0", "x1"]
    alone = [p | {"settings": {"seed": p["settings"]["seed"]}} for p in SEEDS[:2]]
    assert sweep_report.ranked(alone, "uf1")["points"][0]["name"] == "all, 2 seeds"
    assert sweep_report.over_seeds(POINTS) == POINTS


def test_a_seed_without_a_figure_leaves_its_setting_without_one():
    lost = [*SEEDS[:3], SEEDS[3] | {"val": {}, "test": {}}]
    assert [p["rank"] for p in sweep_report.ranked(lost, "uf1")["points"]] == [1, None]


def test_seeds_on_the_page_and_the_terminal(tmp_path):
    run.write_text(tmp_path / "y1/report.html", "")
    points = [p | {"run_dir": str(tmp_path / p["name"])} for p in SEEDS]
    page = sweep_report.write_sweep_report(tmp_path, points, "uf1", "samm@0").read_text("utf-8")
    assert "sweep of 2 points" in page
    assert "0.800 <small>±0.071</small>" in page
    assert '<a href="y1/report.html">1</a>' in page
    out = io.StringIO()
    sweep_report.print_sweep(SEEDS, "uf1", Console(file=out, width=60, soft_wrap=True))
    assert "0.800 ± 0.071" in out.getvalue()
    assert "seed" not in out.getvalue().splitlines()[0]
