"""No run directory, however it is damaged, ends a command with anything but its answer or one
message.
"""

import os
import signal

import numpy as np
import pytest

from experiments import explain, fuse
from fexpr import Recognizer
from fexpr.errors import UserError
from fexpr.evaluate.__main__ import main as evaluate
from fexpr.export import main as export
from fexpr.recognizer.__main__ import main as recognize
from fexpr.runs.list_runs import main as status
from fexpr.storage import run
from fexpr.weights import main as pack
from tests.recognizer.runs import stored
from tests.runs import hostile

# where more are asked for, exports and pictures of runs that can still be read are made too
EVERYTHING = "FEXPR_HOSTILE_CASES" in os.environ
CASES = int(os.environ.get("FEXPR_HOSTILE_CASES", "18"))
SEED = int(os.environ.get("FEXPR_HOSTILE_SEED", "0"))
SECONDS = 60  # a case that takes longer hangs


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = stored(tmp_path_factory.mktemp("stored"))
    history = [{"epoch": e, "train_loss": 1.0, "val_loss": 1.0, "seconds": 0.1} for e in (1, 2)]
    run.write_text(folder / run.HISTORY, "".join(f"{row}\n".replace("'", '"') for row in history))
    people = {"people": np.array(["toy/a", "toy/b"]), "seen": np.ones((3, 2), bool)}
    people |= {"trial_fold": np.arange(3, dtype=np.int32), "unknown": np.array([], str)}
    run.write_arrays(folder / run.PEOPLE, people, compressed=True)
    return folder


@pytest.fixture
def alarm():
    def hang(*_):
        raise AssertionError(f"it hangs: more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


SLOW = (recognize, export, pack, explain.main)


def can_be_read(folder):
    try:
        Recognizer.restore(folder, trial=0)
    except UserError:
        return False
    return True


def commands(folder, whole, out):
    yield status, [str(folder.parent)]
    yield recognize, [str(folder), str(whole / "nothing.png")]
    yield export, [str(folder), str(out / "exported"), "--trial=0"]
    yield pack, ["pack", str(folder), str(out / "packed")]
    yield fuse.main, [str(folder), str(whole), f"--out={out / 'fused'}", "--resamples=10"]
    yield evaluate, [str(folder), "--resamples=10", f"--out={out / 'evaluated'}"]
    yield explain.main, [str(folder), "--trial=0", f"--out={out / 'explained'}"]


def cases():
    """One of each kind of damage; more of each kind marked `long`."""
    for i, case in enumerate(hostile.cases(CASES, SEED)):
        yield pytest.param(*case, marks=pytest.mark.long if i >= len(hostile.KINDS) else ())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("name", "damage"), list(cases()))
def test_every_command_answers_or_says_what_is_wrong(name, damage, source, tmp_path, alarm, capsys):
    folder = hostile.damaged(source, tmp_path / "runs" / name, damage)
    for command, arguments in commands(folder, source, tmp_path):
        alarm()
        if command in SLOW and not EVERYTHING and can_be_read(folder):
            continue
        code = command(arguments)
        printed = capsys.readouterr()
        assert code in (0, 2), (command, code)
        assert "Traceback" not in printed.err + printed.out
        if code == 2:
            assert printed.err.strip(), command
            assert printed.err.count("What to do:") <= 1, printed.err


def test_one_foreign_config_does_not_hide_the_other_runs(source, tmp_path, capsys):
    hostile.damaged(source, tmp_path / "good", lambda _: None)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / run.CONFIG).write_text('{"model_type": "bert"}')
    assert status([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "good" in printed
    assert "not shown" in printed
    assert "config: missing" in printed
