"""AffectNet in both layouts: crops, classes, polarity, and what is faulty."""

import cv2
import numpy as np
import pytest

from configs import base
from fexpr.data.preparation.face_images import spectral_residual
from fexpr.data.releases import affectnet
from fexpr.data.synthetic import affectnet_faces
from fexpr.errors import UserError

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def load(folder, **fields):
    config = base.get_config().data
    config.update(
        {
            "name": "affectnet",
            "root": str(folder.parent),
            "source": "release",
            "classes": "8",
            **fields,
        }
    )
    return affectnet.load(config)


@pytest.fixture
def tables(tmp_path):
    """The layout of 2017: five images with a bright square for a face; validation.csv without its
    header, as some copies have it.
    """
    folder = tmp_path / "affectnet"
    images = folder / "Manually_Annotated_Images" / "1"
    images.mkdir(parents=True)
    lines = {"training": [HEADER], "validation": []}
    for i, (expression, valence) in enumerate([(1, 0.8), (7, -0.3), (0, 0.1), (9, -2), (6, -0.6)]):
        image = np.full((120, 100, 3), 20, np.uint8)
        image[30:78, 10 + i : 58 + i] = np.linspace(100, 220, 48)[None, :, None]
        cv2.imwrite(str(images / f"{i}.png"), image)
        lines["validation" if i == 4 else "training"].append(
            f"1/{i}.png,{10 + i},30,48,48,1;2,{expression},{valence},0.1"
        )
    for name, text in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")
    return folder


def test_tables_of_2017(tables):
    found = load(tables)
    assert found.ids.tolist() == [
        "Training/1/0.png",
        "Training/1/1.png",
        "Training/1/2.png",
        "Validation/1/4.png",
    ]
    assert found.labels.tolist() == [1, 7, 0, 6]
    assert found.split.tolist() == ["Training"] * 3 + ["Validation"]
    assert found.class_names == affectnet.CLASSES
    np.testing.assert_array_equal(
        found.images[0, :, :, 0], np.linspace(100, 220, 48).astype(np.uint8)[None].repeat(48, 0)
    )
    assert load(tables, classes="7").labels.tolist() == [1, 0, 6]
    polarity = load(tables, classes="polarity")
    assert polarity.labels.tolist() == [1, 2, 0, 2]
    assert polarity.class_names == ("neutral", "positive", "negative")
    assert load(tables, skip_clips="Training/1/1.png").labels.tolist() == [1, 0, 6]


def test_folders_with_arrays(tmp_path):
    folder = tmp_path / "affectnet"
    affectnet_faces.write_synthetic(folder, 40, seed=1)
    found = load(folder, map="saliency")
    assert found.images.shape == (40, 48, 48, 2)
    assert np.bincount(found.labels, minlength=8)[7] == 0
    assert (found.split == "Validation").sum() == 4
    np.testing.assert_array_equal(
        found.images[3, ..., 1], spectral_residual(found.images[3, ..., 0])
    )
    (folder / "train_set" / "annotations" / "3_val.npy").unlink()
    np.save(folder / "train_set" / "annotations" / "5_exp.npy", np.array("12"))
    with pytest.raises(UserError, match=r"(?s)3_val.npy.*Training/5: .* 12, expected 0 to 10"):
        load(folder)


def test_faults_of_tables_are_all_named(tables):
    path = tables / "training.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace(",0.8,", ",1.8,")
    lines[2] = lines[2].replace("1/1.png", "1/77.png")
    lines[3] = lines[3].replace(",48,48,", ",0,48,")
    lines += [lines[4]]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        load(tables, skip_clips="Training/nobody")
    for part in (
        "valence is 1.8",
        "no image Manually_Annotated_Images/1/77.png",
        "the face's box is ",
        "is in line 5 already",
        "names Training/nobody",
    ):
        assert part in error.value.text()
    (tables.parent / "empty" / "affectnet").mkdir(parents=True)
    with pytest.raises(UserError, match="no AffectNet"):
        load(tables.parent / "empty" / "affectnet")
    with pytest.raises(UserError, match="none, saliency, spectral"):
        load(tables, map="landmarks")
