import numpy as np
import pytest

from fexpr.evaluate.kaggle import TOP_TEN, kaggle, kaggle_rank

NAMES = np.array(["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"])


@pytest.mark.parametrize(
    ("accuracy", "rank"),
    [(0.73, 1), (0.71161, 1), (0.7116, 2), (0.66, 5), (0.6219, 10), (0.6218, None), (0.1, None)],
)
def test_rank_among_the_published_ten(accuracy, rank):
    assert kaggle_rank(accuracy) == rank


def test_the_ten_are_those_that_were_published():
    assert list(TOP_TEN) == sorted(TOP_TEN, reverse=True)
    assert [kaggle_rank(score) for score in TOP_TEN] == list(range(1, 11))


def test_another_part_than_private_test_is_said_plainly():
    m = {"accuracy": {"value": 0.66, "low": 0.64, "high": 0.68}}
    table = kaggle({"PrivateTest": m, "PublicTest": m}, "fer2013@0123", NAMES)
    assert table["PrivateTest"] == {
        "accuracy": 0.66,
        "rank": 5,
        "decided_here": True,
        "text": "0.6600 on PrivateTest: rank 5 of 56 (by the ends of the interval: 4 to 9)",
    }
    assert not table["PublicTest"]["decided_here"]
    assert (
        "decided on PrivateTest, which is another part: this is not its rank"
        in table["PublicTest"]["text"]
    )
    low = kaggle(
        {"PrivateTest": {"accuracy": {"value": 0.61, "low": 0.60, "high": 0.63}}},
        "fer2013@0",
        NAMES,
    )["PrivateTest"]
    assert low["rank"] is None
    assert (
        low["text"]
        == "0.6100 on PrivateTest: below the top ten of 56 (by the ends of the interval: 10 to "
        "below ten)"
    )


def test_other_data_and_other_labels_have_no_rank():
    m = {"PrivateTest": {"accuracy": {"value": 0.7, "low": None, "high": None}}}
    assert kaggle(m, "synthetic", NAMES) == {}
    assert kaggle(m, "fer2013@0", np.array([*NAMES, "contempt"])) == {}
