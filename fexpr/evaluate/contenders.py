"""One table of predictors on the same test rows: runs, and classes that others predicted.

All are measured on the same rows, with the same resamples of subjects; a row that one has and
another lacks is an error, and so is an entry without a statement of how its selection was done.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from fexpr.errors import UserError
from fexpr.evaluate.bootstrap import RESAMPLES
from fexpr.evaluate.measure import measure
from fexpr.evaluate.predictions import SELECTIONS, checked, rows_of
from fexpr.evaluate.scored_rows import ScoredRows, baseline_rows, model_rows, presence_of

SHOWN = 5  # ids that a problem lists
SUBJECTS = ("subject", "group")  # columns of an entry that name its subjects, if it has one


@dataclasses.dataclass(frozen=True)
class Answer:
    """A predictor's predictions for the test rows, for every seed in the order of the ids: `ids`,
    `folds` (the fold that tests each row) and `datasets` describe the rows of one seed.
    """

    ids: np.ndarray
    folds: np.ndarray
    datasets: np.ndarray
    rows: ScoredRows


@dataclasses.dataclass(frozen=True)
class Contender:
    """A row of the table.

    Attributes:
      answers: selection -> answer; `selection` is the one that counts.
      how: how epoch and hyper-parameters were chosen; may not be empty.
      extraction: what it reads from a clip. minutes: of training, or None if unknown.
    """

    name: str
    answers: Mapping[str, Answer]
    selection: str
    how: str
    extraction: str = ""
    minutes: float | None = None

    def __post_init__(self):
        if not self.how.strip():
            raise UserError(
                f"{self.name} does not state how its selection was done",
                fix="state it: 'last epoch', 'epoch by held-out training subjects', 'best on test'",
            )

    @property
    def answer(self) -> Answer:
        """The predictions of its own selection."""
        return self.answers[self.selection]


def answers_of(predictions: dict[str, np.ndarray], selection: str) -> dict[str, Answer]:
    """Selection -> answer, from the arrays of a predictions.npz with one class per row.

    Raises:
      UserError: the selection is the oracle's or not there; action units; a row tested twice.
    """
    p = checked(predictions, selection)
    if p["labels"].ndim == 2:
        raise UserError(
            "a leaderboard needs one class per row", fix="leave out runs on action units"
        )
    found = {}
    for name in SELECTIONS:
        if not (p["selection"] == name).any():
            continue
        rows = rows_of(p, name, "test")
        answer, ids = model_rows(p, name, "test", None), p["ids"][rows]
        if len(np.unique(ids[answer.pools()[0]])) < len(ids[answer.pools()[0]]):
            raise UserError(
                "a row is tested in several folds", fix="give every test row once per seed"
            )
        order = np.lexsort((ids, answer.seeds))
        first = rows[order][: len(np.unique(ids))]
        found[name] = Answer(
            p["ids"][first],
            p["fold_names"][p["trial_fold"][p["trial"][first]]],
            p["dataset"][first] if "dataset" in p else np.full(len(first), ""),
            answer.at(order),
        )
    return found


def constant_of(predictions: dict[str, np.ndarray], selection: str) -> dict[str, Answer]:
    """The answer of a predictor that always predicts the most frequent class of the training
    rows.
    """
    p = checked(predictions, selection)
    template = answers_of(p, selection)[selection]
    rows = rows_of(p, selection, "test")
    baseline = baseline_rows(p, selection, model_rows(p, selection, "test", None))["majority"]
    first = baseline.at(np.lexsort((p["ids"][rows], baseline.seeds))[: len(template.ids)])
    return {"last": dataclasses.replace(template, rows=first)}


def read_entry(path: Path, reference: Answer, class_names: Sequence[str]) -> dict[str, Answer]:
    """Classes that others predicted, from a CSV of `id,class` with one line per test row.

    A column `subject` or `group`, if present, must agree with the reference's subjects: a clip of
    another subject is another clip.

    Raises:
      UserError: the file cannot be read; ids that are missing, unknown or repeated; classes that
        do not exist; other subjects. All at once.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f, skipinitialspace=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            lines = [
                (reader.line_num, {k: (v or "").strip() for k, v in row.items() if k})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path} cannot be read: {e}", fix="give a CSV of id,class in UTF-8") from e
    if missing := [f"no column {name}" for name in ("id", "class") if name not in header]:
        raise UserError(
            f"{path} is not an entry of a leaderboard", missing, "its columns are id and class"
        )
    subjects = dict(zip(reference.ids.tolist(), _first_seed(reference).groups, strict=True))
    subject = next((name for name in SUBJECTS if name in header), None)
    problems, named = [], {}
    for number, line in lines:
        clip, place = line["id"], f"line {number}, {line['id'] or 'no id'}"
        if clip not in subjects:
            problems.append(f"{place}: not among the {len(subjects)} test rows")
        elif clip in named:
            problems.append(f"{place}: named before")
        if line["class"] not in class_names:
            problems.append(
                f"{place}: class {line['class']!r}, expected one of {', '.join(class_names)}"
            )
        if subject and clip in subjects and line[subject] != subjects[clip]:
            problems.append(
                f"{place}: {subject} {line[subject]!r}, expected {str(subjects[clip])!r}"
            )
        named.setdefault(clip, line["class"])
    lacking = [clip for clip in reference.ids.tolist() if clip not in named]
    if lacking:
        text = ", ".join(lacking[:SHOWN]) + (", …" if len(lacking) > SHOWN else "")
        problems.append(f"{len(lacking)} test rows are missing: {text}")
    if problems:
        raise UserError(
            f"{path} does not match the table's test rows",
            problems,
            "give every test row once, by the ids in predictions.npz of any member",
        )
    places = {name: k for k, name in enumerate(class_names)}
    decided = np.array([places[named[clip]] for clip in reference.ids.tolist()])
    decisions = presence_of(decided, len(class_names))
    rows = dataclasses.replace(
        _first_seed(reference), decisions=decisions, scores=decisions.astype(float), logits=None
    )
    return {"last": dataclasses.replace(reference, rows=rows)}


@threadpool_limits.wrap(limits=1, user_api="blas")
def leaderboard(
    contenders: Sequence[Contender],
    class_names: Sequence[str],
    metrics: tuple[str, str] = ("uf1", "uar"),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict:
    """All contenders measured, in the given order.

    Args:
      metrics: names of metrics in metrics.json; the first decides which row is best, and is used
          for data sets, selections and differences.

    Returns:
      `rows`: dicts of `name`, `how`, `extraction`, `minutes`, `seeds` (their number), `selection`,
      `test` (of `metrics`, counts pooled over folds), `folds_f1` (F1 averaged over classes within
      each fold, as scikit-learn's f1_score(average='macro') does, then over folds and seeds),
      `per_dataset` {name: M}, `selections` {name: M}, `difference` (paired, minus the best row, for
      which it is None). And `metrics`, `best`, `class_names`, `clips`, `groups`, `datasets`,
      `resamples`.

    Raises:
      UserError: rows, labels or subjects that differ from those of the first.
    """
    check_same(contenders)
    every = np.ones(len(class_names), bool)
    measured = [
        {name: measure(a.rows, every, resamples, seed) for name, a in c.answers.items()}
        for c in contenders
    ]
    main = [m[c.selection] for c, m in zip(contenders, measured, strict=True)]
    first_metric, best = metrics[0], int(np.argmax([m.of(metrics[0])["value"] for m in main]))
    datasets = sorted(set(contenders[0].answer.datasets.tolist()) - {""})
    rows = []
    for i, (contender, of) in enumerate(zip(contenders, measured, strict=True)):
        answer = contender.answer
        parts = {
            name: measure(_of_dataset(answer, name), every, resamples, seed).of(first_metric)
            for name in (datasets if len(datasets) > 1 else ())
        }
        rows.append(
            {
                "name": contender.name,
                "how": contender.how,
                "extraction": contender.extraction,
                "minutes": contender.minutes,
                "seeds": len(answer.rows.pools()),
                "selection": contender.selection,
                "test": {metric: main[i].of(metric) for metric in metrics},
                "folds_f1": f1_over_folds(answer),
                "per_dataset": parts,
                "selections": {name: m.of(first_metric) for name, m in of.items()},
                "difference": None if i == best else main[i].less(main[best], first_metric),
            }
        )
    first = contenders[0].answer
    return {
        "rows": rows,
        "metrics": list(metrics),
        "best": contenders[best].name,
        "class_names": list(class_names),
        "clips": len(first.ids),
        "groups": len(np.unique(first.rows.groups)),
        "datasets": datasets,
        "resamples": resamples,
    }


def check_same(contenders: Sequence[Contender]) -> None:
    """Raises a UserError if rows, labels or subjects differ from those of the first, or if two have
    the same name.
    """
    names = Counter(c.name for c in contenders)
    problems = [f"{name}: {count} rows of this name" for name, count in names.items() if count > 1]
    first = contenders[0]
    truth = _truth(first.answer)
    for other in contenders[1:]:
        theirs = _truth(other.answer)
        differ = [clip for clip in sorted({*truth, *theirs}) if truth.get(clip) != theirs.get(clip)]
        if differ:
            text = ", ".join(differ[:SHOWN]) + (", …" if len(differ) > SHOWN else "")
            problems.append(
                f"{other.name}: {len(differ)} test rows are missing, added, or have another label "
                f"or subject than in {first.name}: {text}"
            )
    if problems:
        raise UserError(
            "these contenders do not fit into one table",
            problems,
            "use the same release, the same clips and the same protocol for all",
        )


def f1_over_folds(answer: Answer) -> float:
    """The mean over folds, then over seeds, of each fold's macro F1: over the classes that occur or
    are predicted in the fold. Not the pooled UF1, which averages classes once.
    """
    values = []
    for pool in answer.rows.pools():
        truth, says = (
            side[pool].argmax(1) for side in (answer.rows.presence, answer.rows.decisions)
        )
        values += [
            # scikit-learn's annotation is its default's type, a string
            f1_score(truth[mine], says[mine], average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
            for mine in (answer.folds == fold for fold in np.unique(answer.folds))
        ]
    return float(np.mean(values))


def _first_seed(answer: Answer) -> ScoredRows:
    return answer.rows.at(answer.rows.pools()[0])


def _of_dataset(answer: Answer, name: str) -> ScoredRows:
    return answer.rows.at(np.tile(answer.datasets == name, len(answer.rows.pools())))


def _truth(answer: Answer) -> dict[str, tuple]:
    rows = _first_seed(answer)
    return dict(
        zip(
            answer.ids.tolist(),
            zip(rows.presence.argmax(1).tolist(), rows.groups.tolist(), strict=True),
            strict=True,
        )
    )
