"""The notebook, executed from top to bottom in a kernel of its own: on a run made here, and from an
empty folder with nothing but the built wheel.
"""

import os
import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from tests.installed import build_wheel, install
from tests.launching import ROOT

pytestmark = pytest.mark.long

NOTEBOOK = ROOT / "notebooks" / "restore_in_colab.ipynb"


def test_it_holds_no_output_of_its_author():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_its_first_cell_says_what_to_install_and_to_read():
    first = nbformat.read(NOTEBOOK, as_version=4).cells[0]
    assert first.metadata.tags == ["parameters"]
    assert re.match("FEXPR = ", first.source)


def executed(folder, parameters, path):
    """Texts of the outputs, and how many pictures there are."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells[0].source += f"\n{parameters}"
    env = {name: value for name, value in os.environ.items() if name != "FEXPR_DATA_DIR"}
    env |= {"PYTHONPATH": str(path), "FEXPR_CACHE_DIR": str(folder / ".cache")}
    env["IPYTHONDIR"] = str(folder / ".ipython")
    client = NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(folder)}})
    client.execute(env=env)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs
    )
    return text, sum("image/png" in output.get("data", {}) for output in outputs)


def check_comparison(text):
    for name in ("constant predictor", "restored", "trained further"):
        assert re.search(rf"{name} +[01]\.\d", text)


@pytest.mark.filterwarnings("ignore")  # of the Jupyter client's own
def test_on_a_run(faces, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "run"), "zip", faces[0])
    text, pictures = executed(tmp_path, f"RUN = {packed!r}", ROOT)
    assert "Recognizer of mlp trained on synthetic" in text
    assert "SYNTHETIC" in text
    assert pictures == 2
    assert "val_score" in text
    check_comparison(text)


@pytest.mark.filterwarnings("ignore")
def test_in_an_empty_folder_with_the_wheel_alone(tmp_path):
    pytest.importorskip("hatchling")
    install(build_wheel(tmp_path / "wheel"), tmp_path / "site")
    (tmp_path / "empty").mkdir()
    text, pictures = executed(tmp_path / "empty", "EPOCHS = 1", tmp_path / "site")
    assert "Recognizer of resnet_pooled trained on fer2013@" in text
    assert "no figure that is computed here says anything about people" in text
    assert pictures == 2
    check_comparison(text)
