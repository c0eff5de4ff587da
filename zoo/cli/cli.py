"""Task, data and Trainer of one command, built from layers of configuration by a LightningCLI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import ParallelStrategy
from torch import nn

from datamodules.core.errors import refuse
from datamodules.core.protocols import (
    FitsChannels,
    HasInputShape,
    HasLabelKind,
    HasMaxLength,
    HasNumClasses,
    HasSmallestBatch,
    HasUsualLength,
)
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.layer_norms import LayerNorms
from zoo.callbacks.progress import Progress
from zoo.callbacks.train_log import TrainLog
from zoo.catalog.contents import VERBS, import_all
from zoo.catalog.facts import FACTS
from zoo.cli.checks import check_monitor, check_net, check_trainer, device_type
from zoo.cli.config import dump_yaml, rerunnable
from zoo.cli.inside import write_inside
from zoo.cli.messages import is_lightnings, refusal
from zoo.cli.parser import LayerAction, ZooParser
from zoo.cli.request import Arguments, Request
from zoo.cli.resume import check_same_run
from zoo.cli.session import Session
from zoo.cli.trainer import Trainer
from zoo.cli.trial import Trial
from zoo.model.loading import model_of_task
from zoo.nets.cost import Cost, measure_cost
from zoo.report.summary import write_copies
from zoo.report.understood import Telling
from zoo.run.checkpoint import check_fits
from zoo.run.checkpoint_io import AtomicCheckpointIO
from zoo.run.csv_logger import MetricsCSV
from zoo.run.folder import RunFolder, new_run, run_of
from zoo.run.launch import (
    devices_of_launcher,
    is_first_process,
    is_started_by_others,
    start_children,
)
from zoo.run.precision import allow_tf32, choose_precision
from zoo.run.processes import Processes, end_with_children
from zoo.run.signals import stop
from zoo.run.threads import settle_threads
from zoo.run.wandb_filing import Filing, tags_of
from zoo.run.wandb_login import WandbMode
from zoo.tasks.base import Task
from zoo.tasks.init_from import take_weights
from zoo.tasks.net_spec import builders_fit_data

import_all()

#: Options of the Trainer that predictions might be thought to heed.
_NOT_OF_PREDICT = ("strategy", "profiler", "deterministic", "benchmark", "detect_anomaly")


class ZooCLI(LightningCLI):
    """Builds task, data and Trainer from layers of configuration, around a run folder.

    Args:
        request: The command line, taken apart.
        arguments: What is left to parse.
        session: Takes the run folder and the W&B run.
    """

    def __init__(self, request: Request, arguments: Arguments, session: Session) -> None:
        self.request = request
        self.checkpoint = arguments.checkpoint
        self.start = arguments.start
        self.varied = arguments.varied
        self.session = session
        super().__init__(
            model_class=L.LightningModule,
            datamodule_class=L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=ZooParser,
            parser_kwargs={
                "prog": f"zoo {request.verb}",
                "description": VERBS[request.verb],
                "sources": arguments.sources,
            },
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=arguments.words,
            run=False,  # the verbs' parsers are built one by one, as each takes its time
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser that knows which file each layer comes from."""
        parser = ZooParser(**kwargs)
        parser.add_argument("-c", "--config", action=LayerAction, help="A recipe; see above.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our options, and hand the data's facts to the task and the net."""
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_argument(
            "--wandb",
            type=WandbMode,
            default="auto",
            help="Weights & Biases: auto is online where this machine is logged in, else offline, "
            "and off for test and validate; a WandbLogger of trainer.logger takes its place.",
        )
        parser.add_argument(
            "--wandb_checkpoint",
            type=bool,
            default=False,
            help="Uploads the best checkpoint as an artifact of the W&B run.",
        )
        parser.add_argument(
            "--wandb_group",
            type=str | None,
            default=None,
            help="The group that the W&B run belongs to; left out: its recipe, or its study.",
        )
        parser.add_argument(
            "--wandb_tags",
            type=list[str] | str | None,
            default=None,
            help="Tags of the W&B run, with commas between them, besides its task, net, data and "
            "recipe.",
        )
        parser.add_argument(
            "--wandb_notes",
            type=str | None,
            default=None,
            help="What the W&B run's page says about it.",
        )
        parser.add_argument(
            "--wandb_watch",
            type=bool,
            default=False,
            help="Logs the norm of each layer's gradient and weights to W&B, at log points.",
        )
        parser.add_argument(
            "--trust",
            type=list[str],
            default=[],
            help="A package whose classes the recipe may name, besides those it may in any case.",
        )
        parser.add_argument(
            "--quiet",
            action="store_true",
            help="Leaves out the table of what was understood, which comes before the first step.",
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="A checkpoint to start from: a file, the folder of a run, or last or best of the "
            "run begun last, as RECIPE:best of a recipe's; for fit, last of the one that has not "
            "come to its end.",
        )
        parser.add_argument(
            "--weights",
            type=str | None,
            default=None,
            help="The same by a name: weights that come with the package, or hf:owner/name.",
        )
        parser.add_argument(
            "--init_from",
            type=str | None,
            default=None,
            help="A checkpoint whose weights a training starts from: all that fit by name and "
            "shape; the last layer only where the classes are the same.",
        )
        if self.request.verb == "predict":
            parser.add_argument(
                "--inputs",
                type=list[str] | None,
                default=None,
                help="Files and folders to predict; the data's test set where it is left out.",
            )
        for fact in FACTS:
            for owner in ("model.init_args", "model.init_args.net.init_args"):
                parser.link_arguments(f"data.{fact}", f"{owner}.{fact}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and check what has to be right before anything is built."""
        super().parse_arguments(parser, args)
        seed = self.config["seed_everything"]
        if isinstance(seed, bool) or not 0 <= seed < 2**32:  # true would draw one
            raise refuse("seed_everything", seed, f"give a number from 0 to {2**32 - 1}")
        tags_of(self.config["wandb_tags"])

    def _dump_config(self) -> None:
        if hasattr(self, "config_dump"):
            return
        options = {"skip_link_targets": False, "skip_none": False, "format": "json"}
        self.config_dump = json.loads(self.parser.dump(self.config, **options))
        # All arguments of a small net may be facts of the data; the dump leaves these out, and
        # Lightning, which records their values, misses the mapping that they stand in.
        net = (self.config_dump.get("model") or {}).get("init_args", {}).get("net")
        if isinstance(net, dict):
            net.setdefault("init_args", {})

    def before_instantiate_classes(self) -> None:
        """Choose the run folder, and have all that is built write into it."""
        options = self.config["trainer"]
        check_trainer(options)
        self.session.folder = self._choose_folder(Path(options["default_root_dir"]))
        self._given = write_inside(options, self.folder.path)

    def instantiate_classes(self) -> None:
        """Build data and task; what their constructors refuse is the user's to put right."""
        try:
            with builders_fit_data(_say_once):
                super().instantiate_classes()
        except (TypeError, ValueError, OSError, MisconfigurationException) as error:
            if isinstance(error, TypeError) and not is_lightnings(error):
                raise
            raise refusal(error, self.config) from error

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build the Trainer around a run folder, and check everything before that is created.

        Returns:
            The Trainer; None to predict, which needs none.
        """
        for option, value in self._given.items():  # the recipe, as it was
            self.config["trainer"][option] = value
        options, folder = self.config_init["trainer"], self.folder
        net = getattr(self.model, "net", None)
        if isinstance(self.datamodule, FitsChannels) and isinstance(net, nn.Module):
            self.datamodule.fit_channels(net)
        check_monitor(self.config["checkpoint"]["monitor"], self.model)
        stop.limit = self.config["checkpoint"]["stop_seconds"]
        # One file of all predictions, in their order; one batch to try.
        if self.request.verb == "predict":
            return self._prepare_prediction(options)
        if self.request.tries:
            devices = one_of_devices(options["devices"])
            kwargs |= {"devices": devices, "num_nodes": 1, "strategy": "auto"}
        else:
            kwargs |= devices_of_launcher(options["devices"], options["num_nodes"])
        self._settle_precision(options)
        callbacks = _as_list(options.get("callbacks"))
        bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
        extra = options.get("logger")
        path = self.request.ckpt_path
        self.checkpoint_io = AtomicCheckpointIO({path: self.checkpoint} if path else {})
        self.telling, self.trial = Telling(silent=self.request.quiet), Trial()
        if self.start is not None:
            name = str(self.request.init_from)
            self.telling.taken = take_weights(self.model, self.start, name, self.datamodule)
            self.start = None
        trainer = super().instantiate_trainer(
            default_root_dir=str(folder.path),
            logger=False,  # the loggers write into the folder, which is not there yet
            plugins=[*_as_list(options.get("plugins")), self.checkpoint_io],
            callbacks=[
                self.telling,
                *([self.trial] if self.request.verb == "check" else []),
                TrainLog(),
                *([LayerNorms()] if self.config["wandb_watch"] else []),
                *([Progress()] if options["enable_progress_bar"] is not False and not bars else []),
                *callbacks,
                *(self.request.part.callbacks if self.request.part else []),
            ],
            **kwargs,
        )
        allow_tf32(trainer.precision, trainer.strategy.root_device.type)
        self._tell_precision(trainer)
        self._settle_threads(trainer)
        self._gather(trainer)
        self.telling.cost = self.cost
        step = None
        if self.checkpoint is not None:
            if folder.resumed and trainer.is_global_zero:
                check_same_run(str(path), self.checkpoint, self.model, self.datamodule)
            check_fits(self.checkpoint, self.model, str(path))
            epoch, most = self.checkpoint.get("epoch", 0), trainer.max_epochs
            if self.request.trains and most is not None and 0 <= most < epoch:
                remedy = f"give more, as the checkpoint is of epoch {epoch + 1}"
                raise refuse("trainer.max_epochs", most, remedy)
            step = self.checkpoint["global_step"] if folder.resumed else None
            self.checkpoint = None  # the Trainer takes it from the plugin, and lets go of it
        if self.request.tries:
            return trainer
        recipe = self._recipe()
        if trainer.is_global_zero:
            folder.open()
            folder.write_recipe(self._recipe_text(recipe))
            write_copies(folder, self.datamodule)
            if self.request.part is not None:
                self.request.part.started(folder.path)
        loggers: list[Logger] = [MetricsCSV(folder.path, step)]
        others = [logger for logger in _as_list(extra) if isinstance(logger, Logger)]
        for logger in others:
            logger.log_hyperparams(recipe)
        trainer.loggers = [*loggers, *others, *self._wandb(recipe, others)]
        return trainer

    def _prepare_prediction(self, options: Any) -> None:
        """Build the model that predicts, and open the folder of its predictions.

        It makes a Trainer of its own where callbacks or somebody else's classes wait for one.
        """
        self._settle_precision(options)
        if options["plugins"]:
            raise refuse("trainer.plugins", "given", "leave it out: predict needs no Trainer")
        if given := [
            name for name in _NOT_OF_PREDICT if options[name] not in (None, "auto", False)
        ]:
            named = " and ".join(f"trainer.{name}" for name in given)
            print(f"predict takes no notice of {named}: one device computes, as it can", flush=True)
        device, precision = one_device(options), str(self.config["trainer"]["precision"])
        assert self.checkpoint is not None
        self.model.on_load_checkpoint(self.checkpoint)
        check_fits(self.checkpoint, self.model, str(self.request.ckpt_path))
        self.model.load_state_dict(self.checkpoint["state_dict"], strict=self.model.strict_loading)
        self.checkpoint = None
        callbacks = _as_list(options.get("callbacks"))
        self.predictor = model_of_task(self.model, self.datamodule, device, precision, callbacks)
        if self.predictor.writes and callbacks:
            remedy = "leave it out: a language model writes on, and no batches are predicted"
            raise refuse("trainer.callbacks", "given", remedy)
        is_module = isinstance(self.datamodule, L.LightningDataModule)
        if is_module and not self.predictor.needs_trainer(self.datamodule):
            self.datamodule.prepare_data()
            self.datamodule.setup("predict")
        self.folder.open()
        self.folder.write_recipe(self._recipe_text(self._recipe()))
        write_copies(self.folder, self.datamodule)

    def _settle_precision(self, options: Any) -> None:
        """Write what ``auto`` means here into the configuration, and so into the recipe."""
        plugins = _as_list(options.get("plugins"))
        if options["precision"] != "auto" or any(isinstance(p, Precision) for p in plugins):
            return
        net = self.model.net if isinstance(self.model, Task) else self.model
        facts = (self.checkpoint or {}).get("zoo", {})
        precision = choose_precision(
            net,
            device_type(options["accelerator"]),
            facts.get("precision"),
            goes_on=self.request.trains,
        )
        for config in (self.config, self.config_init):
            config["trainer"]["precision"] = precision

    def _tell_precision(self, trainer: L.Trainer) -> None:
        """Say where a run goes on in another precision than it began with."""
        began_with = (self.checkpoint or {}).get("zoo", {}).get("precision")
        if self.folder.resumed and began_with not in (None, trainer.precision):
            _say_once(f"precision {trainer.precision}, where the run began with {began_with}")

    def _settle_threads(self, trainer: L.Trainer) -> None:
        """Leave busy cores alone, where this process is the only one that computes on a CPU."""
        alone = trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu"
        if not alone or not self.request.trains:
            return
        facts = (self.checkpoint or {}).get("zoo", {}) if self.folder.resumed else {}
        if said := settle_threads(facts.get("threads")):
            print(said, flush=True)

    def _gather(self, trainer: L.Trainer) -> None:
        """Check data and net in the first process, and have all processes of the run meet.

        Those that this command has to start are started once the check has passed.
        """
        strategy = trainer.strategy
        if not isinstance(strategy, ParallelStrategy):
            self.cost = self._check_data_and_net(trainer)
            return
        if is_started_by_others(strategy):
            strategy.setup_environment()
            Processes.join(strategy)
            self.cost = self._check_data_and_net(trainer)
        else:
            self.cost = self._check_data_and_net(trainer)
            children = start_children(strategy, self.request.argv)
            end_with_children(children)
            strategy.setup_environment()
            Processes.join(strategy, children)
        strategy.barrier()

    def _choose_folder(self, root: Path) -> RunFolder:
        if self.request.tries:  # which is never opened
            return RunFolder(Path(self.session.scratch()))
        part = self.request.part
        if self.request.verb == "fit":
            resumed = run_of(Path(self.request.ckpt_path)) if self.request.ckpt_path else None
            names = (part.study, part.label) if part else (self.request.name, self.varied)
            return resumed or new_run(root, *names)
        return new_run(root, part.study, part.label) if part else new_run(root, self.request.verb)

    def _check_data_and_net(self, trainer: L.Trainer) -> Cost | None:
        """Read the data and run a batch of no values through the net, before anything is written.

        Only in the first process: it starts the others, or they wait for it.
        """
        data: Any = self.datamodule
        classes = data.num_classes if isinstance(data, HasNumClasses) else None
        of_tokens = classes is None and isinstance(data, HasMaxLength)  # to be predicted
        if not trainer.is_global_zero or not isinstance(self.model, Task):
            return None
        if classes is None and not of_tokens:
            return None

        net = self.model.net
        data.trainer = trainer
        data.prepare_data()
        trains = self.request.trains
        data.setup("fit" if trains else self.request.verb)
        if trains:
            data.setup("test")  # a fault in the test split had better show before the training
        if of_tokens:
            return measure_cost(
                net, torch.zeros(1, data.max_length, dtype=torch.int64, device="meta")
            )
        if not isinstance(data, HasInputShape):  # texts, whose cost depends on their length
            return _cost_of_text(net, data)
        if trains and classes is not None and isinstance(data, HasSmallestBatch):
            smallest = torch.zeros(data.smallest_train_batch, *data.input_shape, device="meta")
            per_pixel = isinstance(data, HasLabelKind) and data.label_kind == "mask"
            check_net(net, smallest, classes, per_pixel=per_pixel)
        return measure_cost(net, torch.zeros(1, *data.input_shape, device="meta"))

    def _recipe(self) -> dict[str, Any]:
        """Return the resolved recipe, which can be run again."""
        text = self.parser.dump(self.config, skip_none=False, format="json")
        recipe = rerunnable(json.loads(text))
        recipe.pop("ckpt_path", None)
        return recipe

    def _recipe_text(self, recipe: dict[str, Any]) -> str:
        words = " ".join(["zoo", *self.request.argv])
        return f"# {words}\n" + dump_yaml(recipe)

    def _wandb(self, recipe: dict[str, Any], others: list[Logger]) -> list[Logger]:
        options = self.config_init
        if any(isinstance(logger, WandbLogger) for logger in others):
            return []  # two loggers in one process share W&B's run, and would log all twice
        tried_out = self.request.verb == "predict" or options["trainer"]["fast_dev_run"]
        unasked = options["wandb"] == "auto" and not self.request.trains
        if options["wandb"] == "off" or tried_out or unasked:
            return []
        varied = {"varied": self.request.part.varied} if self.request.part else {}
        filing, uploads = self._filing(), options["wandb_checkpoint"]
        wandb = self.session.start_wandb(options["wandb"], recipe | varied, filing, uploads=uploads)
        if is_first_process():
            wandb.best_in_summary("val/loss", "min")
            if isinstance(self.model, Task) and self.model.monitor != "val/loss":
                wandb.best_in_summary(self.model.monitor, self.model.mode)
        return [wandb]

    def _filing(self) -> Filing:
        """Return what the W&B run is filed under."""
        part, options = self.request.part, self.config_init
        net = getattr(self.model, "net", self.model)
        own = (type(each).__name__ for each in (self.model, net, self.datamodule))
        verb = self.request.verb
        return Filing(
            job_type="sweep-trial" if verb == "fit" and part else verb,
            own_group=part.study if part else self.request.name,
            own_tags=(*own, self.request.name),
            group=options["wandb_group"],
            tags=tuple(tags_of(options["wandb_tags"])),
            notes=options["wandb_notes"],
        )

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        assert self.session.folder is not None
        return self.session.folder


def _cost_of_text(net: nn.Module, data: object) -> Cost:
    """Return a net's cost for a text of the usual length, where the data know one."""
    if not isinstance(data, HasUsualLength):
        return measure_cost(net)
    tokens = data.usual_length
    whole = torch.zeros(1, tokens, dtype=torch.int64, device="meta")
    cost = measure_cost(net, whole, torch.full((1,), tokens, device="meta"))
    return replace(cost, tokens=tokens)


def one_of_devices(devices: Any) -> int | list[int]:
    """Return one device: of a list, which may be a text, the first that it names."""
    first, *others = str(devices).strip("[]").split(",")
    return [int(first)] if others or isinstance(devices, list) else 1


def one_device(options: Mapping[str, Any]) -> torch.device:
    """Return the device that the Trainer's options mean; of several the first."""
    kind = device_type(options["accelerator"])
    devices = one_of_devices(options["devices"])
    if kind == "cpu":
        return torch.device(kind)
    return torch.device(kind, devices[0] if isinstance(devices, list) else 0)


def _say_once(sentence: str) -> None:
    """Print a line in the first process."""
    if is_first_process():
        print(sentence, flush=True)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
