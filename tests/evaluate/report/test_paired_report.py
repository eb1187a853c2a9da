"""The page that compares runs."""

from fexpr.evaluate.paired import Candidate, compare
from fexpr.evaluate.report import drawing, paired_report
from tests.evaluate.random_predictions import multilabel

LONG = "htnet_samm_loso-epochs=2-seeds=1-trial_axis=vmap"


def test_runs_of_action_units_have_no_reliability_curves(tmp_path):
    p = multilabel()
    found = compare([Candidate(name, p, "last", "synthetic") for name in ("a", LONG)], resamples=20)
    page = paired_report.write_paired(tmp_path, found, "fexpr evaluate a b")
    assert "<h2>Calibration</h2>" not in page.read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "paired.png",
        "f1_by_class.png",
    }


def test_long_names_are_on_several_lines():
    lines = drawing.in_lines(LONG).splitlines()
    assert len(lines) == 2
    assert "".join(lines) == LONG
