"""Folders and tables of a user's own images: what is read, resized, skipped, and refused."""

import cv2
import numpy as np
import pytest

from configs import base
from fexpr.data import data_sets
from fexpr.data.releases import image_folder
from fexpr.errors import UserError


def write(folder, people=3, classes=("calm", "glad"), side=48):
    """One PNG and one JPEG a person and class, each of one grey level."""
    for p in range(people):
        for k, name in enumerate(classes):
            (folder / f"p{p}" / name).mkdir(parents=True, exist_ok=True)
            image = np.full((side, side, 3), (20 * p + 90 * k, 60, 200), np.uint8)
            cv2.imwrite(str(folder / f"p{p}" / name / "a.png"), image)
            cv2.imwrite(str(folder / f"p{p}" / name / "b.JPG"), image)
    return folder


def load(path, **fields):
    config = base.get_config().data
    config.update({"name": "folder", "path": str(path), "image_size": 48, **fields})
    return data_sets.load(config)


def test_a_folder(tmp_path, capsys):
    place = write(tmp_path / "photos")
    (place / "notes.txt").write_text("x")
    (place / "p0" / ".DS_Store").write_text("x")
    found = load(place)
    assert found.images.shape == (12, 48, 48, 1)
    assert found.class_names == ("calm", "glad")
    assert found.ids[:2].tolist() == ["p0/calm/a.png", "p0/calm/b.JPG"]
    assert found.labels[:4].tolist() == [0, 0, 1, 1]
    assert found.groups[::4].tolist() == ["p0", "p1", "p2"]
    assert found.source.startswith("folder@")
    assert not found.synthetic
    grey = cv2.imread(str(place / "p1" / "glad" / "a.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(found.images[found.ids == "p1/glad/a.png"][0, ..., 0], grey)
    out = capsys.readouterr().out
    assert "skipped, as they are not among the kinds read: 1 .txt, 1 hidden files" in out
    assert "resized" not in out


def test_images_of_other_sizes_are_resized_and_counted_again_from_the_cache(tmp_path, capsys):
    place = write(tmp_path / "photos")
    cv2.imwrite(str(place / "p0" / "calm" / "c.png"), np.full((80, 60), 7, np.uint8))
    for _ in range(2):
        assert (load(place).images[2] == 7).all()
        assert (
            "1 images of 1 other size are resized to 48x48 (data.image_size): 1 of 60x80; 1 "
            "are not square" in capsys.readouterr().out.replace("\n", " ")
        )
    assert load(place, image_size=24).images.shape == (13, 24, 24, 1)


def test_colours_and_streaming(tmp_path):
    place = write(tmp_path / "photos")
    found = load(place, colours="rgb", streamed=True)
    assert found.streamed
    assert found.images.shape == (12, 48, 48, 3)
    assert found.images[np.array([0])][0, 0, 0].tolist() == [200, 60, 0]  # OpenCV wrote B G R
    assert not load(place).streamed


@pytest.mark.parametrize("comma", [",", ";"])
def test_a_table(tmp_path, comma):
    write(tmp_path / "photos")
    lines = [
        ("path", "label", "group"),
        *(
            (f"photos/p{p}/{name}/a.png", name.upper(), f"person {p}")
            for p in range(3)
            for name in ("calm", "glad")
        ),
    ]
    (tmp_path / "photos.csv").write_text(
        "\n".join(comma.join(line) for line in lines), encoding="utf-8-sig"
    )
    found = load(tmp_path / "photos.csv")
    assert found.class_names == ("CALM", "GLAD")
    assert np.unique(found.groups).tolist() == ["person 0", "person 1", "person 2"]
    left = load(tmp_path / "photos.csv", skip_clips="photos/p0/calm/a.png")
    assert len(left) == 5


def test_every_problem_of_a_folder_at_once(tmp_path):
    place = write(tmp_path / "photos", people=1, classes=("calm",))
    data = (place / "p0" / "calm" / "b.JPG").read_bytes()
    (place / "p0" / "calm" / "cut.jpg").write_bytes(data[:-2])
    (place / "p0" / "calm" / "cut.png").write_bytes(
        (place / "p0" / "calm" / "a.png").read_bytes()[:60]
    )
    (place / "p0" / "calm" / "text.jpeg").write_text("hello")
    (place / "p0" / "calm" / "empty.png").touch()
    (place / "stray.png").write_bytes(data)
    with pytest.raises(UserError) as error:
        load(place, skip_clips="nobody.png")
    text = error.value.text()
    for part in (
        "only one person, p0",
        "only one class, calm",
        "1 image in this folder, expected in",
        "names nobody.png",
        "p0/calm/cut.jpg: is cut off",
        "p0/calm/cut.png: is cut off",
        "p0/calm/text.jpeg: is not an image",
        "p0/calm/empty.png: is not an image",
    ):
        assert part in text


def test_folders_in_place_of_images_and_links_to_folders(tmp_path):
    place = write(tmp_path / "photos")
    (tmp_path / "elsewhere").mkdir()
    (place / "p0").rename(tmp_path / "elsewhere" / "p0")
    (place / "p0").symlink_to(tmp_path / "elsewhere" / "p0")
    assert {row.group for row in image_folder.survey(place, set())} == {"p0", "p1", "p2"}
    (place / "p1" / "calm" / "0.png").mkdir()
    (place / "p9").symlink_to(place / "p1")
    (place / "p2" / "again").symlink_to(place)
    with pytest.raises(UserError) as error:
        image_folder.survey(place, set())
    assert len(error.value.problems) == 3
    for part in (
        f"{place}/p1/calm/0.png is a folder, expected an image",
        f"{place}/p9 is the same folder as {place}/p1: remove the link",
        f"{place}/p2/again is the same folder as {place}: remove the link",
    ):
        assert part in error.value.problems


def test_unreadable_images_alone(tmp_path):
    place = write(tmp_path / "photos")
    for name in ("x.png", "y.jpg"):
        (place / "p0" / "calm" / name).write_text("hello")
    with pytest.raises(UserError, match=r"(?s)images .*x.png: .*y.jpg:"):
        load(place)


def test_faults_of_a_table_are_all_named(tmp_path):
    write(tmp_path / "photos")
    (tmp_path / "t.csv").write_text(
        "path,label,group\nphotos/p0/calm/a.png,calm,p0\nphotos/p0/calm/a.png,calm,p0\n"
        "none.png,calm,p1\nphotos/p1/calm/a.png,,\n"
    )
    with pytest.raises(
        UserError,
        match=r"(?s)line 3: .* in line 2.*line 4: .*none.png"
        r".*line 5: no label and no group",
    ):
        load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("file,label\na,b\n")
    with pytest.raises(UserError, match="no column path, group"):
        load(tmp_path / "t.csv")


def test_other_mistakes(tmp_path, monkeypatch):
    monkeypatch.delenv("FEXPR_DATA_DIR", raising=False)
    with pytest.raises(UserError, match="no images at"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no images"):
        load("", root=str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images\\n"):
        load(tmp_path / "empty")
    with pytest.raises(UserError, match="<class>/<person>"):
        load(write(tmp_path / "swapped", classes=("happy", "sad")) and _swapped(tmp_path))
    with pytest.raises(UserError, match=r"colours.*\n.*grey or rgb"):
        load(tmp_path, colours="bgr")


def _swapped(tmp_path):
    for path in sorted((tmp_path / "swapped").glob("*/*/*")):
        target = tmp_path / "by_class" / path.parent.name / path.parent.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path / "by_class"


def test_it_is_synthetic_on_request_alone(tmp_path):
    config = base.get_config("debug").data
    config.name = "folder"
    assert data_sets.resolve_source(config) == "synthetic"
    found = data_sets.load(config)
    assert found.synthetic
    assert len(np.unique(found.groups)) == 6
    config.source = "auto"
    assert data_sets.resolve_source(config) == "release"
    config.path = str(write(tmp_path / "photos"))
    assert not data_sets.load(config).synthetic
    assert image_folder.location(config) == tmp_path / "photos"
