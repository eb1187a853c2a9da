"""Random but plausible predictions, as the experiments save them."""

import numpy as np

AUS = (
    "04",
    "07",
    "43",
    "15",
    "17",
    "25",
    "26",
    "20",
    "21",
    "05",
    "24",
    "02",
    "06",
    "12",
    "31",
    "09",
    "61",
    "14",
    "10",
    "01",
)


def multilabel(
    seed=0, rows=133, subjects=28, classes=12, skill=1.0, selections=("last", "best_val", "oracle")
):
    """One split by subject. The last action unit never occurs outside the training rows; the one
    before is rare in training.
    """
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, subjects, rows)
    prevalence = np.geomspace(0.45, 0.05, classes)
    chance = prevalence * rng.uniform(0.4, 1.6, (subjects, classes))[subject]
    labels = (rng.random((rows, classes)) < chance) * rng.choice(
        [0.2, 0.4, 0.6, 0.8, 1.0], (rows, classes)
    )
    part = np.where(
        subject < subjects * 0.6, "train", np.where(subject < subjects * 0.8, "val", "test")
    )
    labels[part != "train", -1] = 0
    kept = np.flatnonzero(part != "train")
    train = labels[part == "train"] > 0
    train[:, -2] = np.arange(len(train)) < 3
    blocks = []
    for i, _ in enumerate(selections):
        noise = rng.normal(size=(len(kept), classes))
        blocks.append(
            skill * (1 + 0.3 * i) * ((labels[kept] > 0) - 0.5)
            + noise
            + np.log(prevalence / (1 - prevalence))
        )
    n = len(selections)
    return {
        "ids": np.tile(np.array([f"{s:03d}_{i}" for i, s in enumerate(subject)])[kept], n),
        "groups": np.tile(np.array([f"{s:03d}" for s in subject])[kept], n),
        "labels": np.tile(labels[kept], (n, 1)).astype(np.float32),
        "logits": np.concatenate(blocks).astype(np.float32),
        "trial": np.zeros(n * len(kept), np.int32),
        "split": np.tile(part[kept], n),
        "selection": np.repeat(selections, len(kept)),
        "class_names": np.array([f"AU{AUS[k % len(AUS)]}" for k in range(classes)]),
        "train_positives": train.sum(axis=0, keepdims=True).astype(np.float32),
        "train_rows": np.array([len(train)], np.int32),
    }


def multiclass(
    seed=0,
    subjects=8,
    per_subject=12,
    classes=3,
    skill=1.0,
    seeds=(0,),
    selections=("last",),
    failed=(),
):
    """Leave one subject out, for each of `seeds`: a trial per subject, whose validation rows are
    those of the next subject.

    The first half of the subjects is data set 'a', the rest 'b'. `failed` are trial numbers. Skill
    grows with the selection.
    """
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(subjects), per_subject)
    labels = rng.choice(classes, subjects * per_subject, p=np.array([0.6, 0.25, 0.15]))
    trials = [(s, f) for s in range(len(seeds)) for f in range(subjects)]
    blocks = [
        (i, t, f, split, np.flatnonzero(subject == (f + (split == "val")) % subjects))
        for i in range(len(selections))
        for t, (_, f) in enumerate(trials)
        for split in ("test", "val")
    ]
    rows = np.concatenate([r for *_, r in blocks])
    of_trial = np.concatenate([np.full(len(r), t, np.int32) for _, t, _, _, r in blocks])
    chosen = np.concatenate([np.full(len(r), i) for i, *_, r in blocks])
    logits = (
        rng.normal(size=(len(rows), classes))
        + skill * (1 + 0.5 * chosen[:, None]) * np.eye(classes)[labels[rows]]
    )
    logits[np.isin(of_trial, failed)] = np.nan
    outside = [(subject != f) & (subject != (f + 1) % subjects) for _, f in trials]
    return {
        "ids": rows.astype(str),
        "groups": np.array([f"s{g}" for g in subject])[rows],
        "labels": labels[rows].astype(np.int32),
        "logits": logits.astype(np.float32),
        "trial": of_trial,
        "split": np.concatenate([np.full(len(r), s) for *_, s, r in blocks]),
        "selection": np.array(selections)[chosen],
        "dataset": np.where(subject < subjects // 2, "a", "b")[rows],
        "class_names": np.array(["negative", "positive", "surprise"]),
        "train_positives": np.stack(
            [np.bincount(labels[o], minlength=classes) for o in outside]
        ).astype(np.float32),
        "train_rows": np.array([o.sum() for o in outside], np.int32),
        "trial_fold": np.array([f for _, f in trials], np.int32),
        "trial_seed": np.array([seeds[s] for s, _ in trials], np.int32),
        "fold_names": np.array([f"s{f}" for f in range(subjects)]),
        "failed": np.isin(np.arange(len(trials)), failed),
        "epoch": rng.integers(1, 51, (len(trials), 3)).astype(np.int32),
    }


FER_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def pictures(seed=0, val=300, test=400, sharp=3.0, selections=("last", "best_val", "oracle")):
    """One trial on pictures without subjects, as FER2013 has them: every id is its own group; an
    overconfident model.
    """
    rng = np.random.default_rng(seed)
    n, k = val + test, len(FER_CLASSES)
    share = np.array([0.14, 0.02, 0.14, 0.25, 0.17, 0.11, 0.17])
    labels = rng.choice(k, n, p=share)
    labels[-2 * k :] = np.tile(np.arange(k), 2)
    part = np.r_[
        np.full(val, "Training"), np.where(np.arange(test) % 2, "PrivateTest", "PublicTest")
    ]
    ids = np.array([f"{p}_{i}" for i, p in enumerate(part)])
    blocks = [
        sharp * ((1.8 + 0.1 * i) * np.eye(k)[labels] + rng.normal(size=(n, k)))
        for i in range(len(selections))
    ]
    many = len(selections)
    return {
        "ids": np.tile(ids, many),
        "groups": np.tile(ids, many),
        "labels": np.tile(labels, many).astype(np.int32),
        "logits": np.concatenate(blocks).astype(np.float32),
        "trial": np.zeros(many * n, np.int32),
        "split": np.tile(np.r_[np.full(val, "val"), np.full(test, "test")], many),
        "selection": np.repeat(selections, n),
        "dataset": np.tile(part, many),
        "class_names": np.array(FER_CLASSES),
        "train_positives": np.round(share * 2000)[None].astype(np.float32),
        "train_rows": np.array([2000], np.int32),
        "epoch": np.array([[50, 31, 28]], np.int32),
    }
