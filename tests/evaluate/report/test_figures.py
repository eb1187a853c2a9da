"""What the figures of a report are drawn from."""

from fexpr.evaluate.report import figures


def test_learning_curves_are_means_over_the_trials_of_all_chunks():
    history = [
        {"epoch": 1, "train_loss": 3.0, "val_loss": 1.0, "trials": 4},
        {"epoch": 2, "train_loss": 2.0, "val_loss": None, "trials": 1},
        {"epoch": 1, "train_loss": 6.0, "val_loss": 2.0, "trials": 2, "chunk": 1},
        {"epoch": 2, "train_loss": 4.0, "val_loss": 5.0, "trials": 1, "chunk": 1},
    ]
    found = figures._by_epoch(history)
    losses = [(row["epoch"], row["train_loss"], row["val_loss"]) for row in found]
    assert losses == [(1, 4.0, 4 / 3), (2, 3.0, 5.0)]
    alone = [{"epoch": n, "val_loss": 1.0 / n} for n in (1, 2)]
    assert figures._by_epoch(alone) == alone
