"""Numbers as the pages write them."""

import pytest

from fexpr.evaluate.report.page import number


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((0.5, 0.25, 0.75), "0.500 <small>0.250–0.750</small>"),
        ((-0.02, -0.104, -0.01), "−0.020 <small>−0.104 to −0.010</small>"),
        ((-0.0001, -0.00001, 0.2), "0.000 <small>0.000–0.200</small>"),
        ((0.5, None, None), "0.500"),
        ((None, None, None), '<span class="none">–</span>'),
    ],
)
def test_a_value_and_its_interval(estimate, text):
    assert number(dict(zip(("value", "low", "high"), estimate, strict=True))) == text
