import numpy as np

from fexpr.evaluate import evaluate
from fexpr.evaluate.predictions import checked
from fexpr.evaluate.report.selection_words import chosen_by
from tests.evaluate.random_predictions import multiclass, multilabel


def test_what_the_monitor_averages_stands_beside_what_the_table_does():
    p = checked(multilabel(), "best_val")
    metrics = evaluate(p, "best_val", "samm@0", resamples=20)
    counts = {}
    for split in ("val", "test"):
        rows = (p["split"] == split) & (p["selection"] == "best_val")
        present = (p["labels"][rows] > 0).sum(axis=0)
        counts[split] = int(((present > 0) & (present < rows.sum())).sum())
    table = metrics["test"]["macro_f1"]["classes"]
    assert table not in counts.values()
    assert chosen_by(metrics, p, "roc_auc") == (
        "The monitor, ROC-AUC, is a mean over every action unit with positive and negative rows: "
        f"{counts['val']} of the validation rows, the oracle’s over {counts['test']} of the test "
        f"rows. The table’s means are over {table}."
    )
    assert chosen_by(metrics, p, "loss") == chosen_by(metrics, p, None) == ""


def test_nothing_is_said_where_both_average_the_same():
    p = multiclass(selections=("last", "best_val"))
    p["labels"] = (np.arange(len(p["labels"])) % 3).astype(np.int32)
    p = checked(p, "last")
    metrics = evaluate(p, "last", "megc2019@0", resamples=20)
    assert chosen_by(metrics, p, "uf1") == ""
