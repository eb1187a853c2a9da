"""Runs in a bucket, as people start them, against an S3 on this machine: killed, and gone on with
elsewhere, by Ray.
"""

import re
import shutil
import subprocess
import time
import warnings

import fsspec
import numpy as np
import pytest

from configs import mlp_fer2013
from experiments.fit import fit
from fexpr import Recognizer
from fexpr.runs import list_runs, results
from fexpr.storage import addresses, mirror, run
from tests.launching import ROOT, command, environment, launch_from_scratch

pytestmark = pytest.mark.long

RUN = "s3://bucket/runs/mlp"
FIELDS = {
    "data.synthetic_clips": 150,
    "evaluate.resamples": 10,
    "log.tensorboard": False,
    "train.epochs": 30,
    "model.hidden": (8,),
    "model.dropout": 0.0,
}
TINY = (
    f"--config={ROOT}/configs/mlp_fer2013.py:debug",
    *(f"--config.{field}={value}" for field, value in FIELDS.items()),
)
UNITS = 2  # positions of a checkpoint in an epoch: its one step, and its end
OFTEN = "--config.log.checkpoint_seconds=0"


@pytest.fixture(scope="module")
def server():
    """An S3 of moto's with an empty bucket; what lies in it, by name."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        given = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        given.start()
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*given.get_host_and_port()))
        for name, value in {
            "ACCESS_KEY_ID": "test",
            "SECRET_ACCESS_KEY": "test",
            "DEFAULT_REGION": "us-east-1",
            "EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(f"AWS_{name}", value)
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        backend.create_bucket("bucket", "us-east-1")
        yield backend
        given.stop()


def steps(server, whole):
    """Of the checkpoints that go on: those that are whole, or all of which something is there."""
    found = [
        re.match(r"runs/mlp/checkpoints/resume/trials_0-0/(\d+)/(.*)", name)
        for name in list(server.buckets["bucket"].keys)
    ]
    return {int(m[1]) for m in found if m and (not whole or m[2] == mirror.WHOLE)}


def test_a_run_in_a_bucket(server, tmp_path, cache, monkeypatch, capsys):
    config = mlp_fer2013.get_config("debug")
    config.update_from_flattened_dict(FIELDS)
    with monkeypatch.context() as patch:
        patch.setattr(results, "write_page", lambda *_: "no page")
        fit(config, tmp_path / "local")
    # prepared data, but nothing of the run
    shutil.copytree(cache, elsewhere := tmp_path / "elsewhere")

    job = subprocess.Popen(
        command(*TINY, OFTEN, f"--workdir={RUN}"),
        cwd=tmp_path,
        env=environment(cache, 4),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # until one is half there
    while not (len(steps(server, True)) > 1 and steps(server, False) > steps(server, True)):
        assert job.poll() is None, job.communicate()
        time.sleep(0.001)
    job.kill()
    job.communicate()
    last = max(steps(server, True))
    assert list_runs.main(["s3://bucket/runs"]) == 0
    assert re.search(
        rf"mlp  training +({'|'.join(map(str, range(last // UNITS, 31)))}) of 30",
        capsys.readouterr().out,
    )
    store = addresses.Store(RUN)
    whole = store.names(f"checkpoints/resume/trials_0-0/{last}")
    store.get(
        {f"checkpoints/resume/trials_0-0/{last}/{name}": None for name in whole}, tmp_path / "copy"
    )
    copies = {
        name: tmp_path / "copy" / f"checkpoints/resume/trials_0-0/{last}/{name}"
        for name in whole
        if name != mirror.WHOLE
    }
    # what another kill could have left
    store.put({f"checkpoints/resume/trials_0-0/59/{name}": path for name, path in copies.items()})

    done = launch_from_scratch(
        tmp_path,
        elsewhere,
        *TINY,
        f"--workdir={RUN}",
        "--engine=ray",
        "--ray=memory=100MiB",
        devices=4,
    )
    assert done.returncode == 0, done.stderr
    assert f"report     {RUN}/report.html" in done.stdout
    assert not list(tmp_path.glob("s3*"))
    assert not list((elsewhere / "mirrors").iterdir())
    with mirror.opened(
        RUN, only=(run.PREDICTIONS, run.HISTORY, run.LOG, run.REPORT, run.METRICS)
    ) as folder:
        here, local = (
            run.read_arrays(place / run.PREDICTIONS) for place in (folder, tmp_path / "local")
        )
        assert [row["epoch"] for row in run.read_history(folder)] == list(range(1, 31))
        assert "run mlp" in (folder / run.REPORT).read_text()
        assert str(cache) not in (folder / run.REPORT).read_text()
    for name in local:
        np.testing.assert_array_equal(here[name], local[name], err_msg=name)
    assert not steps(server, False)
    assert Recognizer.restore(RUN).metrics["test"]
    assert not [name for name in server.buckets["bucket"].keys if not name.startswith("runs/mlp/")]


@pytest.mark.usefixtures("server")
def test_what_s3_says_no_to(monkeypatch, capsys):
    def said(address="s3://none/run"):
        fsspec.filesystem("s3").clear_instance_cache()
        assert list_runs.main([address]) == 2
        return capsys.readouterr().err

    assert said().startswith(
        "cannot open s3://none/run\n  - The specified bucket does not exist\nWhat to do: "
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "Unable to locate credentials\nWhat to do: set AWS_ACCESS_KEY_ID and" in said(
        "s3://bucket/runs"
    )
