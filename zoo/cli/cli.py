"""The verbs on a LightningCLI of one call."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import Logger

import datamodules.images
import datamodules.language
import datamodules.segmentation
import datamodules.tables
import datamodules.text  # noqa: F401  the parser lists the classes of a kind that are imported
import zoo.nets
import zoo.tasks  # noqa: F401
from datamodules.core.errors import DataError
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.pictures import Pictures
from zoo.callbacks.progress import Progress
from zoo.callbacks.train_log import TrainLog
from zoo.cli.chat import write_texts
from zoo.cli.checks import check_monitor, check_net, check_trainer
from zoo.cli.config import (
    FACTS,
    Request,
    checkpoint_layer,
    expand_flags,
    locate,
    optimizer_resets,
    read_layer,
    refuse_facts,
    take_apart,
    value_of,
)
from zoo.cli.messages import refusal
from zoo.cli.parser import ZooParser, trust
from zoo.cli.report import data_figures, describe, test_figures, write_predictions, write_report
from zoo.errors import (
    OUT_OF_MEMORY,
    Interrupted,
    NonFiniteLoss,
    OptionError,
    UserError,
    is_out_of_memory,
)
from zoo.nets.cost import Profile, profile
from zoo.run.checkpoint import AtomicCheckpointIO, check_complete, check_fits, read_checkpoint
from zoo.run.csv_logger import MetricsCSV
from zoo.run.folder import RunFolder, is_first_process, latest_checkpoint, new_run, run_of
from zoo.run.wandb_logger import RunWandb, WandbMode
from zoo.tasks.language_model import LanguageModel


class ZooTrainer(L.Trainer):
    """Lightning's Trainer; its verbs are ours."""

    def predict(self, *args: Any, inputs: list[str] | None = None, **kwargs: Any) -> Any:
        """Predict labels and probabilities with a checkpoint.

        Args:
            args: As for Lightning's Trainer.
            inputs: Files and folders to predict; the data's test set where it is left out.
            kwargs: As for Lightning's Trainer.
        """
        return super().predict(*args, **kwargs)


class ZooCLI(LightningCLI):
    """Builds task, data and Trainer from layers of configuration, and runs a verb in a run folder.

    Args:
        request: The command line, taken apart.
        args: What is left to parse: the layers as ``--config`` in their order, then the flags.
        checkpoint: The checkpoint that the verb starts from.
    """

    def __init__(
        self, request: Request, args: list[str], checkpoint: dict[str, Any] | None
    ) -> None:
        self.request = request
        self.checkpoint = checkpoint
        super().__init__(
            model_class=L.LightningModule,
            datamodule_class=L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=ZooTrainer,
            parser_class=ZooParser,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our options, and hands the data's facts to the task and the net."""
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_argument(
            "--wandb",
            type=WandbMode,
            default="auto",
            help="Weights & Biases: auto is online where this machine is logged in, else offline.",
        )
        parser.add_argument(
            "--wandb_checkpoint",
            type=bool,
            default=False,
            help="Uploads the best checkpoint as an artifact of the W&B run.",
        )
        parser.add_argument(
            "--trust",
            type=list[str],
            default=[],
            help="A package whose classes the recipe may name, besides those it may in any case.",
        )
        for fact in FACTS:
            for owner in ("model.init_args", "model.init_args.net.init_args"):
                parser.link_arguments(f"data.{fact}", f"{owner}.{fact}", apply_on="instantiate")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the verbs, and the arguments of the Trainer's methods that are no options."""
        common = {"model", "datamodule", "weights_only"}
        evaluation = common | {"dataloaders", "verbose", "return_predictions"}
        return {
            "fit": common | {"train_dataloaders", "val_dataloaders"},
            "validate": evaluation,
            "test": evaluation,
            "predict": evaluation,
        }

    def _parse_ckpt_path(self) -> None:
        """Nothing: the checkpoint is a layer below the recipes, where Lightning lets it win."""

    def _dump_config(self) -> None:
        super()._dump_config()
        # All arguments of a small net may be facts of the data; the dump leaves these out, and
        # Lightning, which records their values, misses the mapping that they stand in.
        net = (self.config_dump.get("model") or {}).get("init_args", {}).get("net")
        if isinstance(net, dict):
            net.setdefault("init_args", {})

    def _set_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not 0 <= int(seed) < 2**32:
            raise UserError(
                f"option seed_everything is {seed}; give a number from 0 to {2**32 - 1}"
            )
        super()._set_seed()

    def instantiate_classes(self) -> None:
        """Build data and task; what their constructors refuse is the user's to put right."""
        try:
            super().instantiate_classes()
        except (ValueError, OSError, MisconfigurationException) as error:
            raise refusal(error, self.config[self.verb]) from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the Trainer around a run folder, and checks everything before it is created."""
        options = self.config_init[self.verb]["trainer"]
        check_trainer(options)
        check_monitor(self.config[self.verb]["checkpoint"]["monitor"], self.model)
        self.run = self._choose_folder(Path(options["default_root_dir"]))
        if self.verb == "predict":  # one file of all predictions, in their order
            devices = options["devices"]
            kwargs |= {"devices": devices[:1] if isinstance(devices, list) else 1, "num_nodes": 1}
        extra = options.get("logger")
        plugins = options.get("plugins") or []
        trainer = super().instantiate_trainer(
            default_root_dir=str(self.run.path),
            logger=[_NoLogger()],
            plugins=[*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()],
            callbacks=[
                TrainLog(),
                *([Progress()] if options["enable_progress_bar"] is not False else []),
                *self._as_list(options.get("callbacks")),
                Pictures(),
            ],
        )
        _check_callbacks(trainer, self.run.path)
        self.profile = self._check_data_and_net(trainer)
        if self.checkpoint is not None:
            check_fits(self.checkpoint, self.model, str(self.request.ckpt_path))
        if trainer.is_global_zero:
            self.run.open()
            self.run.write_recipe(self._recipe_text())
        trainer.loggers = self._loggers(extra)
        return trainer

    @property
    def verb(self) -> str:
        """The verb."""
        assert self.subcommand is not None
        return str(self.subcommand)

    @staticmethod
    def _as_list(value: Any) -> list[Any]:
        if value is None:
            return []
        return value if isinstance(value, list) else [value]

    def _choose_folder(self, root: Path) -> RunFolder:
        if self.verb == "fit":
            resumed = run_of(Path(self.request.ckpt_path)) if self.request.ckpt_path else None
            return resumed or new_run(root, self.request.name)
        return new_run(root, self.verb)

    def _check_data_and_net(self, trainer: L.Trainer) -> Profile | None:
        """Read the data and runs a batch of no values through the net, before anything is written.

        Only in the first process: it starts the others, or they wait for it.
        """
        data, net = self.datamodule, getattr(self.model, "net", None)
        shape, classes = getattr(data, "input_shape", None), getattr(data, "num_classes", None)
        length = getattr(data, "max_length", None) if classes is None else None
        if not trainer.is_global_zero or net is None or (classes is None and length is None):
            return None

        data.trainer = trainer
        data.prepare_data()
        data.setup(self.verb)
        if self.verb == "fit":
            data.setup("test")  # a fault in the test split had better show before the training
        if length is not None:  # windows of tokens to be predicted
            return profile(net, torch.zeros(1, length, dtype=torch.int64, device="meta"))
        if shape is None:  # texts, whose cost depends on their length
            return profile(net, None)
        if self.verb == "fit" and classes is not None and hasattr(data, "smallest_train_batch"):
            smallest = torch.zeros(data.smallest_train_batch, *shape, device="meta")
            per_pixel = getattr(data, "label_kind", None) == "mask"
            check_net(net, smallest, classes, per_pixel=per_pixel)
        return profile(net, torch.zeros(1, *shape, device="meta"))

    def _recipe_text(self) -> str:
        """Return the resolved recipe, which can be run again."""
        parser = self._parser(self.subcommand)
        text = parser.dump(self.config[self.verb], skip_none=False, format="yaml")
        recipe = yaml.safe_load(text)
        for key in ("ckpt_path", "inputs", "trust", "config"):
            recipe.pop(key, None)
        self.recipe: dict[str, Any] = recipe
        words = " ".join(["zoo", *self.request.argv])
        return f"# {words}\n" + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)

    def _loggers(self, extra: Any) -> list[Logger]:
        keep = self.checkpoint["global_step"] if self.checkpoint and self.run.resumed else None
        loggers: list[Logger] = [MetricsCSV(self.run.path, keep)]
        loggers += [logger for logger in self._as_list(extra) if isinstance(logger, Logger)]
        options = self.config_init[self.verb]
        self.wandb: RunWandb | None = None
        tried_out = self.verb == "predict" or options["trainer"]["fast_dev_run"]
        if options["wandb"] != "off" and not tried_out:
            name = f"{self.run.recipe}-{self.run.id}"
            upload_s = 600 if options["wandb_checkpoint"] else 60  # a checkpoint may be large
            self.wandb = RunWandb(self.run.path, self.run.id, name, options["wandb"], upload_s)
            loggers.append(self.wandb)
            if is_first_process():
                self.wandb.start()
                self.wandb.log_hyperparams(self.recipe)
                self.wandb.best_in_summary("val/loss", "min")
                monitor = getattr(self.model, "monitor", "val/loss")
                if monitor != "val/loss":
                    self.wandb.best_in_summary(monitor, self.model.mode)
        return loggers

    def before_fit(self) -> None:
        """Says what starts and where."""
        self.started = time.monotonic()
        if is_first_process():
            print(describe(self.model, self.datamodule, self.profile))
            verb = "goes on in" if self.run.resumed else "in"
            print(f"run {verb} {os.path.relpath(self.run.path)}", flush=True)

    def after_fit(self) -> None:
        """Test the best checkpoint, once, and reports."""
        seconds = time.monotonic() - self.started
        saved = next(c for c in self.trainer.checkpoint_callbacks if isinstance(c, Checkpoints))
        best = saved.best_model_path or saved.last_model_path
        figures: dict[str, float] = {}
        if (
            best
            and self.datamodule is not None
            and not getattr(self.trainer, "fast_dev_run", False)
        ):
            self.trainer.test(self.model, self.datamodule, ckpt_path=best, verbose=False)
            figures = test_figures(self.trainer)
        if is_first_process():
            report = {
                "test": figures,
                "checkpoint": best,
                saved.monitor or "monitor": saved.best_model_score,
                "fit_seconds": round(seconds, 1),
                "data": data_figures(self.datamodule),
            }
            write_report(self.run, report, self.profile, self.config[self.verb]["seed_everything"])
            if self.wandb is not None and self.config[self.verb]["wandb_checkpoint"] and best:
                self.wandb.log_checkpoint(Path(best), {"test": figures})

    def before_validate(self) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    before_test = before_validate

    def after_test(self) -> None:
        """Report the figures of ``test`` or ``validate``."""
        if is_first_process():
            report = {
                self.verb: test_figures(self.trainer),
                "checkpoint": self.request.ckpt_path,
                "seconds": round(time.monotonic() - self.started, 1),
                "data": data_figures(self.datamodule),
            }
            write_report(self.run, report, self.profile, self.config[self.verb]["seed_everything"])

    after_validate = after_test

    def predict(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Predicts, prints a line for each input and writes ``predictions.csv``.

        A language model writes on instead; see :func:`~zoo.cli.chat.write_texts`.
        """
        if isinstance(model, LanguageModel):
            assert self.checkpoint is not None
            model.load_state_dict(self.checkpoint["state_dict"])
            model.to(self.trainer.strategy.root_device)
            write_texts(self.run, model, self.datamodule)
            return
        batches: Any = self.trainer.predict(model, **kwargs)
        if is_first_process():
            write_predictions(self.run, batches, self.datamodule)

    def validate(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Validate without Lightning's own table."""
        self.trainer.validate(model, verbose=False, **kwargs)

    def test(self, model: L.LightningModule, **kwargs: Any) -> None:
        """Tests without Lightning's own table."""
        self.trainer.test(model, verbose=False, **kwargs)


class _NoLogger(Logger):
    """Holds the place of the loggers until the run folder is there."""

    @property
    def name(self) -> str:
        """Nothing."""
        return ""

    @property
    def version(self) -> str:
        """Nothing."""
        return ""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Nothing."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


def quiet() -> None:
    """Keep Lightning's tips and other libraries' deprecations out of a run's output."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    for module in ("lightning", "torchmetrics", "jsonargparse", "torch"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


def build_arguments(request: Request) -> tuple[dict[str, Any] | None, list[str]]:
    """Read recipes and checkpoint, and puts all layers into their order.

    Returns:
        The checkpoint, if the verb starts from one, and the arguments to parse.

    Raises:
        UserError: A file that cannot be used, a missing checkpoint, a fact set by hand.
    """
    if request.verb == "fit" and not request.recipes and request.ckpt_path is None:
        named = {flag.partition("=")[0] for flag in request.flags}
        asks = any(name.endswith(("help", "-h", "print_config")) for name in named)
        if not asks and not {"--model", "--data"} <= named:
            raise UserError(
                "fit needs a recipe: give --config NAME, `zoo list recipes` shows those at hand "
                "(or name --model and --data)"
            )
    defaults = read_layer(Path(__file__).parents[1] / "defaults.yaml")
    recipes = [read_layer(path) for path in request.recipes]
    request.layers = {
        f"recipe {str(path)!r}": layer for path, layer in zip(request.recipes, recipes, strict=True)
    }
    for layer in recipes:
        in_file = layer.pop("ckpt_path", None)
        request.ckpt_path = request.ckpt_path or in_file
    refuse_facts(recipes, request.flags)
    root = Path(str(value_of("trainer.default_root_dir", [defaults, *recipes], request.flags)))
    if request.ckpt_path in ("last", "best"):
        if not request.recipes:
            raise UserError(f"ckpt_path {request.ckpt_path!r} needs --config, to know whose run")
        request.ckpt_path = str(latest_checkpoint(root, request.name, request.ckpt_path))
    if request.ckpt_path is None and request.verb != "fit":
        raise UserError(
            f"{request.verb} needs a checkpoint: give --ckpt_path FILE "
            "(or last or best with --config); without one the weights would be random"
        )
    checkpoint, layers = None, [defaults]
    if request.ckpt_path is not None:
        checkpoint = read_checkpoint(request.ckpt_path)
        check_complete(checkpoint, request.ckpt_path, request.verb)
        layers.append(checkpoint_layer(request.ckpt_path, checkpoint, request.inputs, request.verb))
        request.layers = {f"ckpt_path {request.ckpt_path!r}": layers[-1], **request.layers}
    layers += recipes
    flags = expand_flags(request.flags)
    arguments = [request.verb]
    resets = optimizer_resets(layers, flags)
    for layer, reset in zip(layers, resets, strict=False):
        for text in filter(None, (reset, json.dumps(layer))):
            arguments += ["--config", text]
    if resets[-1] is not None:
        arguments += ["--config", resets[-1]]
    arguments += flags
    if request.ckpt_path is not None:
        arguments += ["--ckpt_path", request.ckpt_path]
    return checkpoint, arguments


def _check_callbacks(trainer: L.Trainer, folder: Path) -> None:
    """Keep checkpoints inside the run folder, whatever a recipe names."""
    for callback in trainer.checkpoint_callbacks:
        path = getattr(callback, "dirpath", None)
        if path and not Path(path).resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"a callback's dirpath {str(path)!r} lies outside the run folder; leave it out"
            )


def _last_good(cli: ZooCLI | None) -> str:
    folder = cli.run.path / "checkpoints" if cli is not None else Path()
    last = folder / "last.ckpt"
    if not last.is_file():
        return "no checkpoint was saved before; try a lower model.lr"
    return (
        f"the last good checkpoint is {os.path.relpath(last)}; go on from it with a lower model.lr"
    )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def run(argv: list[str]) -> int:
    """Run a verb.

    Args:
        argv: The verb and its arguments.

    Returns:
        The exit code.

    Raises:
        UserError: What the user can put right.
    """
    quiet()
    # Gradients that fade over a long text end in numbers below 1e-38, which a CPU is very slow at.
    torch.set_flush_denormal(True)
    cli = ZooCLI.__new__(ZooCLI)  # so that a run that ends early can still be named and finished
    code = 1
    signal.signal(signal.SIGINT, _interrupt)
    sys.argv[0] = sys.argv[0] or "zoo"
    try:
        request = take_apart(argv)
        trust(request.trust)
        checkpoint, arguments = build_arguments(request)
        ZooCLI.__init__(cli, request, arguments, checkpoint)
        code = 0
    except DataError as error:
        code = 2
        raise UserError(str(error)) from error
    except OptionError as error:
        code = 2
        raise UserError(locate(error, request.layers)) from error
    except UserError:
        code = 2
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"zoo: {OUT_OF_MEMORY}", file=sys.stderr)
    except NonFiniteLoss as error:
        print(f"zoo: {error}; {_last_good(cli)}", file=sys.stderr)
    except Interrupted as stop:
        code = 128 + stop.signum
        saved = os.path.relpath(stop.saved) if stop.saved else None
        where = f"go on with --ckpt_path {saved}" if saved else "no checkpoint was saved"
        print(f"zoo: stopped; {where}", file=sys.stderr)
    finally:
        wandb_run = getattr(cli, "wandb", None)
        if wandb_run is not None:
            wandb_run.finish(code)
        if hasattr(cli, "run"):
            if code == 2:
                cli.run.discard()
            cli.run.close()
    return code
