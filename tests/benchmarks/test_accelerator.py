"""The script for accelerators, tiny and on a CPU: every part leaves its figures, whatever ends
it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import accelerator, accelerator_parts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("accelerator")
    words = [
        sys.executable,
        "-m",
        "benchmarks.accelerator",
        "--quick",
        "--minutes=8",
        f"--out={out}",
    ]
    env = {name: value for name, value in os.environ.items() if name != "FEXPR_DATA_DIR"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text()[-2000:] for path in sorted(out.glob("*.log")))
    assert done.returncode == 0, done.stderr + logs
    return json.loads((out / accelerator.RESULT).read_text()), done.stdout, logs


def figures(result, part):
    return {row["name"]: row for row in result[0]["figures"][part]}


@pytest.mark.long
@pytest.mark.nightly
def test_five_seeds_become_a_result_and_an_ensemble(result):
    found = figures(result, "resnet")
    assert found["machine"]["device"]
    assert {"epoch 1", "epoch 2"} <= set(found)
    assert found["training"]["source"].startswith("synthetic")
    assert found["training"]["images_per_second"] > 0
    assert len(found["single, mean of the seeds"]["seeds"]) == 2
    assert (
        0
        <= found["ensemble"]["low"]
        <= found["ensemble"]["value"]
        <= found["ensemble"]["high"]
        <= 1
    )


@pytest.mark.long
@pytest.mark.nightly
def test_every_part_ran_and_is_in_the_table(result):
    content, table, logs = result
    assert set(content["parts"]) == set(accelerator.PARTS)
    assert {part: state["ended"] for part, state in content["parts"].items()} == dict.fromkeys(
        accelerator.PARTS, "done"
    ), logs
    for part, rows in content["figures"].items():
        assert rows, part
        assert all(row["name"] in table for row in rows)
    assert figures(result, "cnn")["pytorch: fexpr"]["warm_seconds"] > 0
    assert figures(result, "loso")["ststnet: fexpr"]["warm_seconds"] > 0
    assert figures(result, "device")["resnet_fer2013, one trial"]["tflops"] > 0
    assert figures(result, "recognizer")["ensemble"]["images_per_second"] > 0


def test_what_is_cut_off_keeps_what_it_wrote(tmp_path):
    record = accelerator.Record(tmp_path / "resnet.jsonl")
    record("epoch 1", seconds=1.0)
    with open(tmp_path / "resnet.jsonl", "a", encoding="utf-8") as file:
        file.write('{"name": "epoch 2", "sec')  # killed in the middle of a line
    accelerator.write(
        tmp_path, {"resnet": {"ended": "out of time", "seconds": 3.0}}, ["resnet", "cnn"]
    )
    content = json.loads((tmp_path / accelerator.RESULT).read_text())
    assert content["figures"] == {"resnet": [{"name": "epoch 1", "seconds": 1.0}], "cnn": []}
    assert "out of time after 3 s" in accelerator.table(content)


def test_a_part_is_ended_with_all_that_it_started(tmp_path):
    child = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; "
        "time.sleep(60)'])"
    )
    began = time.monotonic()
    state = accelerator.limited([sys.executable, "-c", child], 2.0, tmp_path / "log")
    assert state["ended"] == "out of time"
    assert time.monotonic() - began < 20
    assert (
        accelerator.limited([sys.executable, "-c", "raise SystemExit(3)"], 20.0, tmp_path / "log")[
            "ended"
        ]
        == "exit code 3"
    )


def test_a_peer_that_is_missing_is_named(tmp_path):
    record = accelerator.Record(tmp_path / "part.jsonl")
    answer = (
        'import sys\nfor _ in sys.stdin: print(\'{"seconds": 0.5, "about": "test"}\', flush=True)'
    )
    accelerator_parts.race(
        "net", {"fexpr": ["-c", answer], "torch": ["-c", "raise SystemExit(1)"]}, 2, record
    )
    rows = [json.loads(line) for line in (tmp_path / "part.jsonl").read_text().splitlines()]
    assert rows[0]["warm_seconds"] == 0.5
    assert rows[0]["ratio"] == 1.0
    assert "failed" in rows[1]


def test_the_arithmetic_is_counted():
    from benchmarks import accelerator_engines

    engine, _ = accelerator_engines.logistic(quick=True)
    assert accelerator_engines.training_flops(engine) == 3 * 2 * 64 * 7
