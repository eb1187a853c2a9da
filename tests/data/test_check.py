"""python -m fexpr.data check: a whole release, one with a hole, none at all."""

import pytest

from fexpr.data.__main__ import main
from tests.data.samm_release import write_release


@pytest.fixture
def root(tmp_path):
    write_release(tmp_path, "flow")
    return tmp_path


def test_a_whole_release(root, capsys, monkeypatch):
    monkeypatch.setenv("FEXPR_DATA_DIR", str(root))
    assert main(["check", "samm", "--set", "min_positives=1"]) == 0
    out = capsys.readouterr().out
    for text in (
        f"root       {root} (given by $FEXPR_DATA_DIR)",
        "rows     4 of 3 subjects, 28x28x3, samm@",
        "AU04 3",
        "fine",
    ):
        assert text in out


def test_every_release_is_looked_at_before_a_fault_ends_it(root, capsys):
    (root / "casme2").mkdir()
    (root / "samm" / "flow" / "006_006_1_2.png").write_bytes(b"cut")
    assert main(["check", "--root", str(root), "--set", "min_positives=1"]) == 2
    found = capsys.readouterr()
    assert "contains none of the folders that a CASME II release is read from" in found.err
    assert "006_006_1_2.png is not an image" in found.err
    assert "5 of 5 cannot be used: samm, casme2, megc2018, cd6me, megc2019" in found.err
    assert "fine" not in found.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["samm"], "the release samm is missing"),
        ([], "contains no release"),
        (["sam"], "'sam': expected one of samm"),
        (["--set", "layuot=flow"], "has no field 'layuot'"),
        (["--set", "min_positives=few"], "min_positives=few: expected a whole number"),
        (["--set", "streamed=maybe"], "--set streamed=maybe: expected true or false"),
        (["folder", "--set", "image_size=0"], "--set image_size=0: expected"),
        (
            ["samm", "--set", "labels=ferplus"],
            "--set labels=ferplus: samm does not read this field",
        ),
        (["fer2013", "--set", "labels=nobodys"], "--set labels='nobodys': expected"),
    ],
)
def test_mistakes(tmp_path, capsys, arguments, expected):
    assert main(["check", *arguments, "--root", str(tmp_path)]) == 2
    assert expected in capsys.readouterr().err
