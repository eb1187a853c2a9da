"""FERPlus: votes become labels and shares by the stated rule; rows that do not fit are listed."""

import csv
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from fexpr.data.loaders import LOADERS
from fexpr.data.releases import ferplus
from fexpr.data.synthetic import fer_faces
from fexpr.errors import UserError

COUNT = 150
HEADER = [
    "Usage",
    "Image name",
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
]
# where each of these columns stands among the classes, unknown and NF
ORDER = (6, 3, 5, 4, 0, 1, 2, 7, 8, 9)


def load(root="", **changes):
    return LOADERS["fer2013"](
        ConfigDict(
            {
                **base.get_config().data,
                "name": "fer2013",
                "labels": "ferplus",
                "root": str(root),
                **changes,
            }
        )
    )


@pytest.fixture
def folder(tmp_path):
    fer_faces.write_synthetic(tmp_path / "fer2013", "csv", COUNT)
    return tmp_path / "fer2013"


def read(folder):
    with open(folder / "fer2013new.csv", newline="") as f:
        return list(csv.reader(f))


def write(folder, rows):
    with open(folder / "fer2013new.csv", "w", newline="") as f:
        csv.writer(f).writerows(rows)


def test_votes_become_labels_and_shares(folder, capsys):
    header, *rows = read(folder)
    assert header == HEADER
    labels, parts = fer_faces.plan(COUNT, 0)
    assert labels[:6].tolist() != [0] * 6

    def vote(i, name, **votes):
        rows[i] = [parts[i], name, *(votes.get(column, 0) for column in HEADER[2:])]

    vote(0, "", NF=10)
    vote(1, "", neutral=3, unknown=4, fear=3)
    vote(2, "")
    vote(3, "fer0000002.png", contempt=5, happiness=4, unknown=1)  # numbers fall behind the rows
    vote(4, "fer0000003.png", unknown=5, sadness=5)  # an emotion goes before unknown
    a, b = ("sadness", "fear") if labels[5] not in (2, 4) else ("anger", "surprise")
    # neither is FER2013's label: the smallest id
    vote(5, "fer0000004.png", **{a: 4, b: 4, "NF": 2})
    own = HEADER[2:][ORDER.index(labels[6])]
    other = "anger" if own != "anger" else "contempt"
    vote(6, "fer0000005.png", **{own: 5, other: 5})
    write(folder, [header, *rows])
    data = load(folder.parent)
    assert data.class_names == (
        "angry",
        "disgust",
        "fear",
        "happy",
        "sad",
        "surprise",
        "neutral",
        "contempt",
    )
    soft, label = (
        dict(zip(data.ids.tolist(), values, strict=True))
        for values in (data.extras["soft"], data.labels.tolist())
    )
    assert not {"Training_0", "Training_1", "Training_2"} & label.keys()
    assert [label[f"Training_{i}"] for i in (3, 4, 5, 6)] == [
        7,
        4,
        2 if a == "sadness" else 0,
        labels[6],
    ]
    np.testing.assert_allclose(soft["Training_3"], [0, 0, 0, 4 / 9, 0, 0, 0, 5 / 9], rtol=1e-6)
    np.testing.assert_allclose(soft["Training_4"], [0, 0, 0, 0, 1, 0, 0, 0], rtol=1e-6)
    assert data.extras["soft"].dtype == np.float32
    np.testing.assert_allclose(data.extras["soft"].sum(1), 1, rtol=1e-6)
    assert data.source.startswith("fer2013+ferplus@")
    plain = load(folder.parent, labels="fer2013")
    where = {id_: i for i, id_ in enumerate(plain.ids.tolist())}
    np.testing.assert_array_equal(data.images, plain.images[[where[id_] for id_ in data.ids]])
    np.testing.assert_array_equal(data.split, plain.split[[where[id_] for id_ in data.ids]])
    assert data.extras["dataset"].tolist() == data.split.tolist()
    out = " ".join(capsys.readouterr().out.split())
    assert f"{len(data)} of {COUNT} images kept" in out
    assert ", 1 without a vote" in out
    assert "same order" not in out


def test_every_row_against_a_slow_reading(folder, capsys):
    data, labels = load(folder.parent), fer_faces.plan(COUNT, 0)[0]
    expected, ties = {}, 0
    for i, row in enumerate(read(folder)[1:]):
        votes = [0] * 10
        for place, count in zip(ORDER, row[2:], strict=True):
            votes[place] = int(count)
        leaders = [k for k in range(10) if votes[k] == max(votes)]
        winner = labels[i] if labels[i] in leaders else leaders[0]
        if winner < 8:
            expected[f"{row[0]}_{i}"] = winner
            ties += len(leaders) > 1
    assert dict(zip(data.ids.tolist(), data.labels.tolist(), strict=True)) == expected
    assert 0 < len(expected) < COUNT
    assert f"; {ties} ties, decided by" in " ".join(capsys.readouterr().out.split())


def test_rows_in_another_order_are_refused(folder):
    header, *rows = read(folder)
    write(
        folder,
        [
            header,
            *(sorted(rows, key=lambda row: (row[0] != "Training", row[0] != "PublicTest", row[3]))),
        ],
    )
    with pytest.raises(UserError, match=r"from about Training_\d+ "):
        load(folder.parent)


def test_rows_behind_the_last_image_are_counted(folder, capsys):
    header, *rows = read(folder)
    expected = load(folder.parent)
    write(folder, [header, *rows, rows[0]])
    np.testing.assert_array_equal(load(folder.parent).labels, expected.labels)
    assert "ferplus: 1 rows after those of the images" in capsys.readouterr().out


def test_what_is_wrong_with_the_votes_is_listed(folder):
    header, *rows = read(folder)
    rows[3][0] = "PublicTest"
    rows[4][5] = "many"
    rows[6] = rows[6][:5]
    write(folder, [header, *rows[:-2]])
    with pytest.raises(UserError) as e:
        load(folder.parent)
    assert [problem.split(":")[0] for problem in e.value.problems] == [
        "row 3 (line 5)",
        "row 4 (line 6)",
        "row 6 (line 8)",
        f"PrivateTest_{COUNT - 2}",
        f"PrivateTest_{COUNT - 1}",
    ]
    assert "sadness is 'many'" in e.value.problems[1]
    write(folder, [header[:-1], *rows])
    with pytest.raises(UserError, match="no column NF"):
        load(folder.parent)


def test_where_it_lies(folder, tmp_path):
    expected = load(tmp_path)
    (folder / "FERPlus-master").mkdir()
    shutil.move(folder / "fer2013new.csv", folder / "FERPlus-master")
    again = load(tmp_path)
    np.testing.assert_array_equal(again.labels, expected.labels)
    shutil.rmtree(folder / "FERPlus-master")
    with pytest.raises(UserError) as e:
        load(tmp_path)
    assert str(folder / "fer2013new.csv") in e.value.text()
    assert str(folder / "FERPlus" / "fer2013new.csv") in e.value.text()


def test_image_files_have_no_row_numbers(folder, tmp_path):
    fer_faces.write_synthetic(tmp_path / "other" / "fer2013", "folders", COUNT)
    shutil.copy(folder / "fer2013new.csv", tmp_path / "other" / "fer2013")
    with pytest.raises(UserError, match=r"labels=ferplus: .*image files"):
        load(tmp_path / "other")


def test_synthetic_faces_have_votes_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FEXPR_DATA_DIR", raising=False)
    data = load(synthetic_clips=COUNT)
    assert data.synthetic
    assert data.extras["soft"].shape == (len(data), 8)
    assert set(ferplus.COLUMNS[:8]) == set(HEADER[2:10])
