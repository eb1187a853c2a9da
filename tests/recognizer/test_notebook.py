"""The notebook, executed from top to bottom in a kernel of its own, on a run made here."""

import os
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from tests.launching import ROOT

pytestmark = pytest.mark.long

NOTEBOOK = ROOT / "notebooks" / "restore_in_colab.ipynb"


def test_it_holds_no_output_of_its_author():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.filterwarnings("ignore")  # of the Jupyter client's own
def test_from_top_to_bottom(faces, tmp_path):
    folder, _, _ = faces
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())
    )
    packed = shutil.make_archive(str(tmp_path / "run"), "zip", folder)
    parameters.source += f"\nRUN = {packed!r}"
    changes = {
        "PYTHONPATH": str(ROOT),
        "FEXPR_CACHE_DIR": str(folder.parent / "cache"),
        "IPYTHONDIR": str(tmp_path),
    }
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute(
        env={**os.environ, **changes}
    )
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs
    )
    assert "mlp on synthetic, trained on 4 x" in text
    assert "right decisions on the test rows: 0." in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    history = [
        output.data["text/plain"]
        for output in outputs
        if "val_score" in output.get("data", {}).get("text/plain", "")
    ]
    assert len(history) == 1
    assert len(history[0].splitlines()) == 4  # two lines of headings, two epochs
