"""Numbers that no behaviour shows when they are a little off: tuned and published constants, and
defaults. None changes unseen.

FEXPR_WRITE_REFERENCES=1 pytest tests/test_constants.py writes the fixture again; read what `git
diff` shows.
"""

import ast
import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "constants.txt"
ROOMS = ("train", "evaluate", "data")
# drawn data, and the looks of figures
ELSEWHERE = ("fexpr/data/synthetic/", "fexpr/evaluate/report/drawing.py")


def has_number(node):
    return any(
        isinstance(n, ast.Constant) and isinstance(n.value, (int, float)) for n in ast.walk(node)
    )


def numbers(tree):
    """`NAME = value` of every constant of a module, and `function(argument=value)`, if they hold a
    number or a truth value.
    """
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and has_number(node.value):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{ast.unparse(target)} = {ast.unparse(node.value)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            a = node.args
            positional = [*a.posonlyargs, *a.args]
            pairs = [
                *zip(positional[len(positional) - len(a.defaults) :], a.defaults, strict=True),
                *((arg, d) for arg, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if d),
            ]
            for argument, default in pairs:
                if has_number(default):
                    yield f"{node.name}({argument.arg}={ast.unparse(default)})"


def test_constants_are_what_they_were():
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / "fexpr" / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(ELSEWHERE):
                tree = ast.parse(path.read_text(encoding="utf-8"))
                found += [f"{name} {line}" for line in numbers(tree)]
    if os.environ.get("FEXPR_WRITE_REFERENCES"):
        FIXTURE.write_text("\n".join(found) + "\n", encoding="utf-8")
    assert found == FIXTURE.read_text(encoding="utf-8").splitlines()
