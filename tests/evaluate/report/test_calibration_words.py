"""The sentence about the applied map agrees with the numbers beside it."""

import pytest

from fexpr.evaluate.report import calibration_words


def sentence(names, held_out):
    nll = {"nll": {"value": 0.5}}
    applied = nll | {"names": names, "held_out": held_out}
    return calibration_words.applied({"calibration": {"none": nll, "applied": applied}})


@pytest.mark.parametrize("best", [0.8, 1.2])
def test_no_map_is_not_one_that_does_not_help(best):
    words = sentence(["none", "none"], {"none": 1.0, "svs": best})
    assert "none was significantly better" in words
    assert f"log loss 1.000 without a map; at best {best:.3f}, structured vector" in words


def test_a_map_of_all_trials_improved_their_log_loss():
    words = sentence(["svs", "svs"], {"none": 1.0, "svs": 0.8})
    assert "which improved the log loss" in words
    assert "(1.000 to 0.800)" in words


def test_maps_that_differ_need_not_improve_the_log_loss_of_all_trials():
    words = sentence(["none", "temperature"], {"none": 1.0, "temperature": 1.1})
    assert "in 1 of 2 trials" in words
    assert "improved" not in words
    assert "of all trials together: the model's own 1.000, temperature scaling 1.100" in words
