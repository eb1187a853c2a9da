"""Names of run directories and options in a batch script: quoted, or refused."""

import shlex

import pytest

from fexpr.errors import UserError
from fexpr.runs.launchers import slurm


def header(place, options=()):
    script = slurm.job(["python", "launch.py"], place, 0, options)
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert script.count("\n#SBATCH ") == len(lines)
    return [word for line in lines for word in shlex.split(line.removeprefix("#SBATCH "))], script


def test_names_with_blanks_quotes_and_percent_signs(tmp_path):
    place = tmp_path / "it's 100% mine; rm -rf"
    words, _ = header(place, ["--comment=two words", "--time=04:00:00"])
    assert "--job-name=fexpr-it_s_100_mine_rm_-rf" in words
    assert f"--output={tmp_path}/it's 100%% mine; rm -rf/slurm-%j.txt" in words
    assert words[-2:] == ["--comment=two words", "--time=04:00:00"]


def test_plain_names_stay_as_they_are(tmp_path):
    words, script = header(tmp_path / "htnet_samm-1.2")
    assert "#SBATCH --job-name=fexpr-htnet_samm-1.2" in script
    assert "--requeue" in words


@pytest.mark.parametrize("broken", ["a\n#SBATCH --uid=0", "a\rb"])
def test_a_line_break_is_refused(tmp_path, broken):
    with pytest.raises(UserError, match="line break"):
        header(tmp_path / broken)
    with pytest.raises(UserError, match="line break"):
        header(tmp_path, [broken])
    with pytest.raises(UserError, match="line break"):
        slurm.job(["python", broken], tmp_path, 0, [])
