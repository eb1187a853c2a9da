"""Action units of a composite's clips: from the workbooks by clip, unknown without one."""

import shutil

import cv2
import numpy as np
import pytest

from configs import ststnet_megc2019
from fexpr import facs
from fexpr.data.releases import megc2019, unit_codes, workbook
from fexpr.data.releases.samm import synthetic_release
from fexpr.errors import UserError


@pytest.fixture
def composite(tmp_path):
    """Two published-map releases with lists: SAMM with a workbook, CASME II without one."""
    source = synthetic_release(3, 6, 0)
    table = workbook.read_workbook(workbook.find_workbook(source))
    config = ststnet_megc2019.get_config("debug").data
    with config.unlocked():
        config.root, config.source = str(tmp_path), "release"
    for name, subject in (("samm", "{}"), ("casme2", "sub{}")):
        (tmp_path / name / "flow").mkdir(parents=True)
        lines = ["dataset,subject,clip,emotion,flow"]
        for i, row in enumerate(table.itertuples()):
            lines.append(
                f"{name},{subject.format(row.subject)},{row.clip},"
                f"{megc2019.CLASSES[i % 3]},{row.subject}_{row.clip}.png"
            )
            cv2.imwrite(
                str(tmp_path / name / "flow" / f"{row.subject}_{row.clip}.png"),
                np.full((28, 28, 3), i, np.uint8),
            )
        (tmp_path / name / "megc2019.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(workbook.find_workbook(source), tmp_path / "samm")
    return config, table


def test_units_by_clip(composite):
    config, table = composite
    dataset = unit_codes.with_units(megc2019.load(config), config)
    units = dataset.extras["auxiliary"]
    assert units.shape == (2 * len(table), 12)
    assert units.dtype == np.float32
    assert np.isnan(units[dataset.extras["dataset"] == "casme2"]).all()
    codes = facs.parse_all(table["code"].tolist(), workbook.places(table))
    for clip, code in zip(table["clip"], codes, strict=True):
        (row,) = np.flatnonzero(dataset.ids == f"samm/{clip}")
        present = facs.intensities(code)
        if not present:
            assert np.isnan(units[row]).all()
            continue
        np.testing.assert_array_equal(units[row], [float(n in present) for n in facs.CD6ME])


def test_without_a_workbook(composite):
    config, _ = composite
    _, folder = megc2019.folders(config)["samm"]
    for path in folder.glob("*.xlsx"):
        path.unlink()
    with pytest.raises(UserError, match="auxiliary='action_units'"):
        unit_codes.with_units(megc2019.load(config), config)


def test_units_of_the_synthetic_releases():
    config = ststnet_megc2019.get_config("debug").data
    dataset = unit_codes.with_units(megc2019.load(config), config)
    units, names = dataset.extras["auxiliary"], dataset.extras["dataset"]
    for name, (database, folder) in megc2019.folders(config).items():
        assert database.book is not None
        table = workbook.read_workbook(workbook.find_workbook(folder), database.book)
        codes = facs.parse_all(table["code"].tolist(), workbook.places(table))
        expected = dict(zip(database.ids(table), map(facs.intensities, codes), strict=True))
        rows = np.flatnonzero(names == name)
        assert len(rows) > 3
        for row in rows:
            present = expected[dataset.ids[row].removeprefix(f"{name}/")]
            np.testing.assert_array_equal(units[row], [float(n in present) for n in facs.CD6ME])
