"""Tables as spreadsheets, scripts and OpenFace write them, and what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fexpr.storage import delimited
from fexpr.storage.delimited import BadTable


def write(tmp_path, data):
    path = tmp_path / "t.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,x\n2,y\n",
        "\ufeffa,b\n1,x\n2,y\n",
        '\ufeff"a","b"\r\n"1","x"\r\n2,y\r\n',
        ' a , "b" \n 1 , x \n2,y',
        "a;b\n1;x\n2;y\n",
        "a\tb\n1\tx\n2\ty\n",
        "a,b\n1,x,\n2,y,\n",  # a separator behind each row
        "a,b,\n1,x,\n2,y,\n",
        "\n\na,b\n\n1,x\n,\n2,y\n\n",
        "c,a,b\n9,1,x\n9,2,y\n",
    ],
)
def test_one_table_in_many_spellings(tmp_path, text):
    table = delimited.read(write(tmp_path, text), ("a", "b"), separators=",;\t")
    assert table.columns == {"a": ["1", "2"], "b": ["x", "y"]}
    assert [line for line, _ in table.rows()] == [
        i for i, line in enumerate(text.split("\n"), 1) if "x" in line or "y" in line
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no column a, b.*found: nothing"),
        (b"\n\n\n", "found: nothing"),
        (b"<!DOCTYPE html><html>404</html>", "no column a, b"),
        (b"a,c\n1,2\n", "no column b.*found: a, c"),
        (b"a,b,a\n1,2,3\n", "column a .*(once|twice)"),
        (b"a,b\n1,2,3\n4,5\n6,7,8,9\n", "line 2: 3 cells.* 2.* line 4: 4 cells"),
        (b"a,b\n1,caf\xe9\n", "line 2.*0xe9.*UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"a,b\n1\0,2\n", "line 2.*NUL"),
        (b"a,b\n1," + b"A" * 200_000 + b"\n", "line 2.*larger than"),
        (b"a,b\n1," + b"A" * 2_000_000 + b"\n", "line 2.* 1,048,576 bytes"),
    ],
)
def test_what_is_no_such_table(tmp_path, data, why):
    with pytest.raises(BadTable, match=why):
        delimited.read(write(tmp_path, data), ("a", "b"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BadTable, match="folder"):
        delimited.read(tmp_path, ("a",))
    with pytest.raises(BadTable, match="No such file"):
        delimited.read(tmp_path / "t.csv", ("a",))


def test_a_table_without_header(tmp_path):
    rows = "1,x\n2,y\n"
    for text, lines in ((rows, [1, 2]), (f"a,b\n{rows}", [2, 3])):
        table = delimited.read(write(tmp_path, text), ("b",), names=("a", "b"))
        assert (table.columns["b"], table.lines) == (["x", "y"], lines)


def test_short_rows_and_optional_columns(tmp_path):
    table = delimited.read(write(tmp_path, "a,b\n1\n"), ("a",), optional=("b", "c"))
    assert table.columns == {"a": ["1"], "b": [""]}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x.png", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_is_no_formula(text):
    assert delimited.safe_cell(text) == f"'{text}"


def test_other_cells_stay_as_they_are():
    for value in ("a.png", "a=b", "", -1.5, None, "./-x.png"):
        assert delimited.safe_cell(value) is value


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_a_reason(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("any"), data)
    with contextlib.suppress(BadTable):
        assert set(delimited.read(path, ("a",)).columns) == {"a"}
