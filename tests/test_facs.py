"""The FACS grammar: every code of the SAMM workbook, CASME II's way of writing, typos, policies,
and random codes.
"""

import contextlib
import dataclasses
import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fexpr import facs
from fexpr.errors import UserError
from fexpr.facs import ActionUnit, Code, FacsError, Policy, intensities, parse

SAMM = {  # every distinct cell of the published workbook -> the numbers in it
    4: [4],
    5: [5],
    7: [7],
    9: [9],
    12: [12],
    17: [17],
    20: [20],
    24: [24],
    26: [26],
    31: [31],
    38: [38],
    "4+7": [4, 7],
    "4+7+43": [4, 7, 43],
    "15A+17": [15, 17],
    "25+26": [25, 26],
    "L20+21": [20, 21],
    "R2": [2],
    "(R6 or R12)+R15": [6, 12, 15],
    "R6A+R12": [6, 12],
    "(R6 or R12) + R15": [6, 12, 15],
    "5B+24": [5, 24],
    "12A": [12],
    "7B": [7],
    "5A": [5],
    "ref(7B)+43": [7, 43],
    "7D": [7],
    "ref(7B)+43C": [7, 43],
    "7B+ ref(43)": [7, 43],
    "7C": [7],
    "A9+12": [9, 12],
    "4D+9B": [4, 9],
    "7+12": [7, 12],
    "L7A": [7],
    "L12 + 61": [12, 61],
    "A12+A7": [12, 7],
    "A12": [12],
    "A7": [7],
    "L12 or L14": [12, 14],
    "L14": [14],
    "10A/B": [10],
    "ref(L10)+A12B": [10, 12],
    "L12C": [12],
    "12C": [12],
    "L10": [10],
    "7+20+26": [7, 20, 26],
    "ref(5)+20C+25+26": [5, 20, 25, 26],
    "7A": [7],
    "5C": [5],
    "12B": [12],
    "12A+ref(24)": [12, 24],
    "12+24": [12, 24],
    "R12 or R14": [12, 14],
    "L12A": [12],
    "A/L12": [12],
    "A1": [1],
    "1+2": [1, 2],
    "7D+ref(43)": [7, 43],
    "R14": [14],
    "1A+2B+L14C": [1, 2, 14],
    "L14C": [14],
    "R2A": [2],
    "R2B": [2],
    "A9E+ref(10)": [9, 10],
    "L2A": [2],
    "L2": [2],
    "B18+25": [18, 25],
    "8+25": [8, 25],
    "14+25+26": [14, 25, 26],
    "L12A+25": [12, 25],
    "L2C+12": [2, 12],
    "L4": [4],
    "7C+A12B": [7, 12],
    "T18+39": [18, 39],
    "13+39": [13, 39],
    "4+13+T18+39": [4, 13, 18, 39],
    "13+T18+39": [13, 18, 39],
    "4+6+7+9+43E": [4, 6, 7, 9, 43],
    "4D+ref(6)+7C+43E": [4, 6, 7, 43],
    "4B+7B+43E": [4, 7, 43],
    "2C": [2],
    "R14+17+soft focus": [14, 17],
    "R14+R17": [14, 17],
    "R10": [10],
    "A14C": [14],
    "5B": [5],
    "4A/B": [4],
    "4A": [4],
    "24+38": [24, 38],
    "12+39": [12, 39],
    "12+15 ": [12, 15],
    "7B+56": [7, 56],
    "R20": [20],
    "R20B": [20],
    "A1B+A2C": [1, 2],
    "R14A or 17A or 24A": [14, 17, 24],
    "R10A+25+26": [10, 25, 26],
    "T23": [23],
}


@pytest.mark.parametrize("code", SAMM, ids=str)
def test_numbers_of_every_code_of_the_samm_workbook(code):
    assert [unit.number for unit in parse(code).units] == SAMM[code]


U = ActionUnit


@pytest.mark.parametrize(
    ("code", "units"),
    [
        (4, [U(4)]),
        (4.0, [U(4)]),
        (np.int64(4), [U(4)]),
        ("12+15 ", [U(12), U(15)]),
        ("1A+2B+L14C", [U(1, "A"), U(2, "B"), U(14, "C", side="L")]),
        ("A9E+ref(10)", [U(9, "E", side="A"), U(10, already_present=True)]),
        ("4D+ref(6)+7C+43E", [U(4, "D"), U(6, already_present=True), U(7, "C"), U(43, "E")]),
        ("ref(L10)+A12B", [U(10, side="L", already_present=True), U(12, "B", side="A")]),
        (
            "ref(4B+L7)?",
            [
                U(4, "B", already_present=True, uncertain=True),
                U(7, side="L", already_present=True, uncertain=True),
            ],
        ),
        ("13+T18", [U(13), U(18, side="T")]),
        ("B18", [U(18, side="B")]),
        ("5B", [U(5, "B")]),
        ("B5B", [U(5, "B", side="B")]),
        ("10A/B", [U(10, "A", "B")]),
        ("A/L12", [U(12, side="A", side_or="L")]),
        ("L12 or L14", [U(12, side="L", alternative=0), U(14, side="L", alternative=0)]),
        (
            "(R6 or R12) + R15",
            [U(6, side="R", alternative=0), U(12, side="R", alternative=0), U(15, side="R")],
        ),
        (
            "1+(4 or 7)+(9 or 10)?",
            [
                U(1),
                U(4, alternative=1),
                U(7, alternative=1),
                U(9, alternative=3, uncertain=True),
                U(10, alternative=3, uncertain=True),
            ],
        ),
        # `or` binds tighter
        ("4+L12 or L14", [U(4), U(12, side="L", alternative=1), U(14, side="L", alternative=1)]),
        ("4/7", [U(4, alternative=0), U(7, alternative=0)]),
        ("4A/B18", [U(4, "A", alternative=0), U(18, side="B", alternative=0)]),
        ("10A/B or 12", [U(10, "A", "B", alternative=0), U(12, alternative=0)]),
        ("4A/AU7", [U(4, "A", alternative=0), U(7, alternative=0)]),
        # CASME II and the way others write it
        ("4+L10", [U(4), U(10, side="L")]),
        ("L14+R12?", [U(14, side="L"), U(12, side="R", uncertain=True)]),
        ("15?", [U(15, uncertain=True)]),
        ("l10b + r12", [U(10, "B", side="L"), U(12, side="R")]),
        ("AU4+AU12", [U(4), U(12)]),
        ("au04 ＋ＡＵ７", [U(4), U(7)]),
        ("A12", [U(12, side="A")]),
        ("AU L12", [U(12, side="L")]),
    ],
    ids=str,
)
def test_units_as_the_coder_wrote_them(code, units):
    assert parse(code) == Code(tuple(units))


@pytest.mark.parametrize(
    "blank", [None, "", "  ", "\u3000", float("nan"), np.float32("nan"), pd.NA, pd.NaT], ids=repr
)
def test_blank_cells_have_no_units(blank):
    assert parse(blank) == Code()


def test_remarks_are_reported_back():
    assert parse("R14+17+soft focus").notes == ("soft focus",)
    assert parse("?") == Code(notes=("?",))
    assert parse("/") == Code(notes=("/",))
    assert parse("4+?") == Code((U(4),), ("?",))


@pytest.mark.parametrize(
    ("code", "token", "reason"),
    [
        ("4x+7", "4x", "'x'"),
        ("99", "99", "no number of FACS"),
        ("3", "3", "no number"),
        ("9" * 5000, "9" * 5000, "no number"),
        ("1+12F", "12F", "'F'"),
        ("LL4", "LL4", "'LL4'"),
        ("12AB", "12AB", "'B'"),
        ("10A/B/C", "10A/B/C", "'C'"),
        ("ref(", "ref(", "not closed"),
        ("4)", "4)", "not opened"),
        ("(4)(7)", "(4)(7)", "')(7'"),
        ("ref()", "ref()", "missing"),
        ("ref(ref(4))", "ref(ref(4))", "'ref(4)'"),
        ("L12 or", "L12 or", "missing"),
        ("4++7", "4++7", "missing"),
        ("+4", "+4", "missing"),
        ("4+", "4+", "missing"),
        ("4 7", "4 7", "'7'"),
        ("4,7", "4,7", "',7'"),
        ("4²", "4²", "'²'"),
        ("٤", "٤", "'٤'"),
        ("-4", "-4", "'-4'"),
        ("4.5", "4.5", "'.5'"),
        ("soft", "soft", "'soft'"),
        ("L A", "L A", "'L A'"),
        ("4+four or five", "four or five", "'four or five'"),
        (4.5, "4.5", "whole number"),
        (-4, "-4", "'-4'"),
        (1e300, "1e+300", "whole number"),
        (float("inf"), "inf", "whole number"),
        (True, "True", "whole number"),
        (datetime.datetime(2017, 7, 4), "2017-07-04 00:00:00", "date"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_a_typo_is_an_error_that_names_token_and_reason(code, token, reason):
    with pytest.raises(FacsError) as e:
        parse(code)
    assert e.value.token == token
    assert reason in e.value.reason


def test_parse_all_lists_every_bad_cell_at_once():
    where = [f"codes.xlsx row {row}, clip 006_1_{row}" for row in (15, 16, 17, 18)]
    with pytest.raises(UserError) as e:
        facs.parse_all(["4+7", "4+7x", 99, None], where)
    assert e.value.problems == (
        "codes.xlsx row 16, clip 006_1_16: '7x' in '4+7x': cannot read 'x'",
        "codes.xlsx row 17, clip 006_1_17: '99' in '99': 99 is no number of FACS",
    )
    assert "2 of 4" in e.value.title
    assert facs.parse_all(["4", None], where[:2]) == [Code((U(4),)), Code()]


def test_value_of_intensities():
    assert [parse(f"4{letter}").units[0].value for letter in "ABCDE"] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert parse("4").units[0].value == 1.0
    assert parse("10A/B").units[0].value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), {6: 1.0, 15: 0.4, 17: 1.0}),
        (Policy(alternatives="all"), {6: 1.0, 12: 0.2, 15: 0.4, 17: 1.0}),
        (Policy(alternatives="none"), {15: 0.4, 17: 1.0}),
        (Policy(references="present"), {6: 1.0, 15: 0.4, 17: 1.0, 43: 0.6}),
        (Policy(uncertain="absent"), {6: 1.0, 15: 0.4}),
    ],
)
def test_policies(policy, expected):
    assert intensities(parse("(R6 or R12A) + R15B + ref(43C) + 17?"), policy) == expected


def test_a_number_named_twice_counts_once_with_its_maximum():
    assert intensities(parse("L12A+R12C")) == intensities(parse("R12C+L12A")) == {12: 0.6}
    assert intensities(parse("R14C+14")) == {14: 1.0}
    assert intensities(parse("(4 or 7)+(9 or 10)")) == {4: 1.0, 9: 1.0}  # the first of each group


def test_neutral_is_no_label():
    assert parse("0").units == (U(0),)
    assert intensities(parse("0")) == {}


def test_unknown_policy_lists_all_its_mistakes():
    with pytest.raises(UserError) as e:
        Policy(alternatives="last", references="maybe")
    assert len(e.value.problems) == 2
    assert "'last'" in e.value.problems[0]


def test_vocabulary_and_label_matrix():
    rows = [intensities(parse(code)) for code in ("4B+7", "7A", "12", "7+12C", None)]
    assert facs.vocabulary(rows, 2) == (7, 12)
    assert facs.vocabulary(rows, 1) == (4, 7, 12)
    assert facs.vocabulary(rows, 4) == ()
    matrix = facs.label_matrix(rows, (12, 7))
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.float32([[0, 1], [0, 0.2], [1, 0], [0.6, 1], [0, 0]]))
    assert facs.label_matrix([], (4, 7)).shape == (0, 2)
    assert facs.label_matrix(rows, ()).shape == (5, 0)


def test_names_and_the_notebooks_vocabulary():
    assert facs.names((4, 12)) == ("AU04", "AU12")
    assert len(set(facs.NOTEBOOK_25)) == 25
    assert facs.NOTEBOOK_25[:3] == (4, 7, 43)
    assert set(facs.NOTEBOOK_25) <= set(facs.FACS)
    assert not {3, 47, 48, 49, 67, 70, 90, 99} & set(facs.FACS)


# -- random codes: written by the grammar, read by the parser ------------------------------------------------------------------

letters = st.sampled_from("ABCDE") | st.none()
sides = st.sampled_from("LRATB") | st.none()
plain_units = st.builds(
    lambda number, intensity, intensity_or, side, side_or, uncertain: ActionUnit(
        number, intensity, intensity and intensity_or, side, side and side_or, uncertain=uncertain
    ),
    st.sampled_from(sorted(facs.FACS)),
    letters,
    letters,
    sides,
    sides,
    st.booleans(),
)
groups = st.lists(plain_units, min_size=1, max_size=3)
parts = st.tuples(
    groups, st.booleans(), st.booleans(), st.sampled_from([" or ", "/", " OR", " / "])
)


def written(unit: ActionUnit, draw) -> str:
    side = "/".join(filter(None, (unit.side, unit.side_or)))
    intensity = "/".join(filter(None, (unit.intensity, unit.intensity_or)))
    text = f"{draw(st.sampled_from(['', 'AU', 'au ']))}{side}{unit.number}{intensity}{'?' * unit.uncertain}"
    return draw(st.sampled_from([text, text.lower()]))


@st.composite
def codes(draw) -> tuple[str, Code]:
    """A code's text, and what it says. '/' joins no options that hold a '/' themselves: that is
    ambiguous to people too.
    """
    texts, units = [], []
    for group, brackets, reference, joint in draw(st.lists(parts, max_size=4)):
        options = [written(unit, draw) for unit in group]
        text = (" or " if any("/" in option for option in options) else joint).join(options)
        text = f"({text})" if brackets else text
        texts.append(f"ref({text})" if reference else text)
        alternative = len(units) if len(group) > 1 else None
        units += [
            dataclasses.replace(unit, alternative=alternative, already_present=reference)
            for unit in group
        ]
    notes = draw(st.sampled_from([(), ("soft focus",), ("?",)]))
    return draw(st.sampled_from(["+", " + ", "＋"])).join([*texts, *notes]), Code(
        tuple(units), notes
    )


@settings(max_examples=200, deadline=None, database=None)
@given(codes())
def test_what_the_grammar_writes_the_parser_reads(case):
    text, code = case
    assert parse(text) == code


@settings(max_examples=400, deadline=None, database=None)
@given(
    st.text(max_size=12)
    | st.text("0123456789LRATBEFaberfo()+/? ", max_size=16)
    | st.integers()
    | st.floats()
)
def test_anything_else_is_a_facs_error_and_nothing_worse(text):
    with contextlib.suppress(FacsError):
        assert all(unit.number in facs.FACS and 0 < unit.value <= 1 for unit in parse(text).units)
