"""The whole config: its sections, and checks that involve several of them. A config file calls
`get_config()` and overrides what differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import ml_collections
from ml_collections import ConfigDict

from fexpr import config as sections
from fexpr import extensions
from fexpr.config import Problem, field, find_unread
from fexpr.data import data_config
from fexpr.data.data_config import DataConfig
from fexpr.data.loaders import LOADERS, Loader
from fexpr.data.splits.split_config import PROTOCOLS, SplitConfig
from fexpr.errors import UserError
from fexpr.evaluate.evaluate_config import EvaluateConfig
from fexpr.models import MODELS, NORMALIZE
from fexpr.runs.run_config import FilterConfig, InitConfig, LogConfig
from fexpr.runs.spec import EXPERIMENTS, LABORATORIES, OF_TRIALS, STUDIES
from fexpr.train import machines
from fexpr.train.machines import MACHINES
from fexpr.train.train_config import AugmentConfig, OptimizerConfig, TrainConfig, check_kind

VARIANTS = ("", "debug")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The config of a run. Its sections are declared beside the code that reads them."""

    experiment: str = field("fit", "what is run", one_of=EXPERIMENTS)
    seed: int = field(0, "initial weights, shuffling, dropout, augmentation", ge=0)
    extensions: tuple[str, ...] = field(
        (),
        "modules of your own that register data sets, models, …: "
        "'my_lab.faces', or files: 'lab/my_faces.py'",
    )
    members: tuple[str, ...] = field(
        (),
        "for compare_classifiers: config files, each with its published accuracy: "
        "'mlp_fer2013=0.39 PrivateTest', …; of leaderboard: 'NAME=config', "
        "'NAME=config:variant', or 'NAME=finished run directory'",
    )
    fused: tuple[str, ...] = field(
        (),
        "for leaderboard: members that are fused into an additional row: 'NAME=MEMBER & MEMBER "
        "& …'",
    )
    entries: tuple[str, ...] = field(
        (),
        "for leaderboard: predictions of others, 'NAME=FILE.csv; how selection was done', the file "
        "has the columns id,class",
    )
    tables: str = field(
        "", "for leaderboard: a folder into which its tables and figure are written as well"
    )
    sweep: tuple[str, ...] = field(
        (), "like --sweep: 'optimizer.learning_rate=1e-4,3e-4'; every combination is a run"
    )
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    model: dict = field(
        {"name": ""},
        "the network, with its constructor's arguments as further fields; one of "
        f"{', '.join(MODELS)}; of experiment=svm 'svm', of experiment=machine one of "
        f"{', '.join(MACHINES)}",
    )
    init: InitConfig = dataclasses.field(default_factory=InitConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    evaluate: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)

    def problems(self) -> Iterator[Problem]:
        yield from self._problems_of_names()
        yield from self._problems_of_data()
        yield from self._problems_of_training()
        yield from self._problems_of_features()
        if self.experiment == "machine":
            yield from self._problems_of_machines()
        yield from self._unread()

    def _problems_of_names(self) -> Iterator[Problem]:
        named: dict[str, tuple[object, Mapping[str, object]]] = {
            "split.protocol": (self.split.protocol, PROTOCOLS)
        }
        if self.experiment not in LABORATORIES:
            named["data.name"] = (self.data.name, LOADERS)
        if self.experiment in (*OF_TRIALS, *STUDIES):
            named["model.name"] = (self.model.get("name"), MODELS)
        for path, (name, registry) in named.items():
            if name not in registry:
                yield Problem(
                    path,
                    name,
                    f"one of {', '.join(map(repr, registry))}; "
                    f"{extensions.registered_by(self.extensions)}",
                )
        if self.experiment == "svm" and self.model.get("name") != "svm":
            yield Problem("model.name", self.model.get("name"), "'svm'")

    def _problems_of_data(self) -> Iterator[Problem]:
        data, side = self.data, self.data.image_size
        if data.duplicates != "keep":
            if data.name not in data_config.WITH_COPIES:
                names = " or ".join(map(repr, data_config.WITH_COPIES))
                yield Problem("data.name", data.name, f"{names} with data.duplicates")
            if self.split.inner:
                yield Problem(
                    "split.inner",
                    self.split.inner,
                    "0 with data.duplicates, as validation rows are fixed",
                )
        if data.clip_frames and self.augment.mixup:
            yield Problem(
                "augment.mixup",
                self.augment.mixup,
                "0 with data.clip_frames, as clips may be short",
            )
        for name in ("shift", "cutout", "crop"):
            if (value := getattr(self.augment, name)) >= side:
                yield Problem(f"augment.{name}", value, f"less than data.image_size ({side})")
        seen = self.augment.crop or side
        if self.train.early_size >= seen:
            yield Problem(
                "train.early_size",
                self.train.early_size,
                f"less than the {seen} pixels that the network sees",
            )
        if self.train.early_size and data.streamed:
            yield Problem("train.early_size", self.train.early_size, "0 with data.streamed")

    def _problems_of_training(self) -> Iterator[Problem]:
        largest = sections.LARGEST[int] - self.split.seeds + 1
        if largest < self.seed <= sections.LARGEST[int]:
            yield Problem(
                "seed", self.seed, f"at most {largest} with split.seeds={self.split.seeds}"
            )
        train, normalize = self.train, NORMALIZE.get(str(self.model.get("name")))
        if self.split.final and train.selection != "last":
            yield Problem("train.selection", train.selection, "'last' with split.val='none'")
        if self.split.final and train.patience:
            yield Problem("train.patience", train.patience, "0 with split.val='none'")
        if normalize and train.normalize != normalize:
            yield Problem(
                "train.normalize",
                train.normalize,
                f"{normalize!r}, as {self.model['name']} prepares images itself",
            )
        loader = LOADERS.get(self.data.name)
        kind = "clip" if self.data.clip_frames else getattr(loader, "kind", "face")
        if train.normalize == "median" and kind not in ("flow", "face"):
            yield Problem("train.normalize", train.normalize, f"another for rows of kind {kind!r}")
        if train.auxiliary != "none" and self.data.name != "megc2019":
            yield Problem("train.auxiliary", train.auxiliary, "'none' without data.name='megc2019'")
        if train.targets == "soft" and not self.data.labels.startswith("ferplus"):
            yield Problem(
                "train.targets",
                train.targets,
                "another without data.labels='ferplus', whose votes are the soft labels",
            )
        if self.optimizer.name == "lbfgs" and train.batch_size:
            yield Problem(
                "train.batch_size", train.batch_size, "0 (all rows) with optimizer.name='lbfgs'"
            )

    def _problems_of_features(self) -> Iterator[Problem]:
        """Problems of `init.features`, which are computed once."""
        if not self.init.features:
            return
        if self.augment != AugmentConfig():
            yield Problem(
                "augment", "…", "no augmentation with init.features, which are computed once"
            )
        for name in ("tta", "auxiliary"):
            if (value := getattr(self.train, name)) != "none":
                yield Problem(f"train.{name}", value, "'none' with init.features")
        if self.optimizer.freeze:
            yield Problem(
                "optimizer.freeze",
                self.optimizer.freeze,
                "'' with init.features: only the last part is trained",
            )
        if self.train.normalize not in ("none", "unit", "symmetric") and not self.init.from_run:
            yield Problem(
                "train.normalize",
                self.train.normalize,
                "'none', 'unit' or 'symmetric' with init.features of a file",
            )

    def _problems_of_machines(self) -> Iterator[Problem]:
        """Problems of experiment='machine': its hyper-parameters, and fields that need epochs."""
        yield from machines.problems(self.model)
        split, train = self.split, self.train
        if split.inner < 2:
            yield Problem("split.inner", split.inner, "at least 2: the parts that choose")
        if split.seeds != 1:
            yield Problem("split.seeds", split.seeds, "1, as machines draw nothing")
        if train.selection != "last":
            yield Problem(
                "train.selection", train.selection, "'last', as there are no epochs to choose from"
            )
        if train.multilabel:
            yield Problem("train.loss", train.loss, "'cross_entropy'")
        if train.tta not in ("none", "flip"):
            yield Problem("train.tta", train.tta, "'none' or 'flip'")
        if train.monitor not in ("uf1", "accuracy", "loss"):
            yield Problem("train.monitor", train.monitor, "'uf1', 'accuracy' or 'loss'")

    def _unread(self) -> Iterator[Problem]:
        """Fields that differ from their defaults, but are not read."""
        yield from find_unread(
            self, EXPERIMENTS.get(self.experiment, ("*",)), f"experiment={self.experiment!r}"
        )
        if self.filter.weights != "restart" and self.experiment == "filter_frames":
            yield Problem(
                "filter.weights",
                self.filter.weights,
                "'restart', as only iterate_filtering reads it",
            )
        loader = LOADERS.get(self.data.name)
        if self.experiment in LABORATORIES or not isinstance(loader, Loader):
            return
        if loader.reads is None:  # the user's own
            return
        sizes = {"image_size": (loader.side,)} if loader.side else {}
        for problem in find_unread(
            self.data,
            (*data_config.ALL_READ, *loader.reads),
            f"data.name={self.data.name!r}",
            also=sizes,
        ):
            yield problem._replace(field=f"data.{problem.field}")
        for problem in check_kind(self.augment, loader.kind):
            yield problem._replace(field=f"augment.{problem.field}")
        if self.evaluate.clips != "sum" and (self.data.name != "ravdess" or self.data.clip_frames):
            yield Problem(
                "evaluate.clips",
                self.evaluate.clips,
                "'sum', as only rows that are frames of clips are combined",
            )


def get_config(variant: str = "") -> ConfigDict:
    """The defaults. `variant`: what follows the colon in `--config=FILE:debug`; '' or 'debug'.

    Raises:
      UserError: unknown variant.
    """
    if variant not in VARIANTS:
        raise UserError(
            f"unknown config variant {variant!r}", fix="use the config as it is, or with ':debug'"
        )
    return sections.build(RunConfig, variant == "debug").lock()


def validate(config: ml_collections.ConfigDict) -> RunConfig:
    """Loads the extensions; checks every field and their combinations.

    Raises:
      UserError: extensions that cannot be imported; with every problem of the config at once.
    """
    extensions.load(config.extensions)
    return sections.check(RunConfig, config)


def upgrade(stored: dict) -> ConfigDict:
    """The config of a stored run, with the defaults of fields that did not exist when it was
    made.
    """
    return sections.upgrade(RunConfig, stored)


def describe(topic: str) -> str:
    """Every field of the section `topic`, or of 'all'; for --help.

    Raises:
      UserError: no such section.
    """
    kinds = {name: kind for name, (kind, _) in sections.declarations(RunConfig).items()}
    names = [name for name, kind in kinds.items() if dataclasses.is_dataclass(kind)]
    if topic == "all":
        return "\n".join(sections.describe(RunConfig))
    if topic not in names:
        raise UserError(
            f"--help={topic}: there is no such section",
            fix=f"choose one of {', '.join(names)}, or all",
        )
    head = f"{topic}: {' '.join(kinds[topic].__doc__.partition(chr(10) * 2)[0].split())}"
    return "\n".join([head, "", *sections.describe(kinds[topic], f"{topic}.")])
