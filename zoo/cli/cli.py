"""The verbs on a LightningCLI of one call."""

from __future__ import annotations

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
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import Logger

from datamodules.core.errors import refuse
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.pictures import Pictures
from zoo.callbacks.progress import Progress
from zoo.callbacks.train_log import TrainLog
from zoo.cli.catalog import import_all
from zoo.cli.chat import write_texts
from zoo.cli.checks import check_monitor, check_net, check_trainer
from zoo.cli.config import FACTS
from zoo.cli.messages import refusal
from zoo.cli.parser import LayerAction, ZooParser, trust
from zoo.cli.report import data_figures, describe, test_figures, write_predictions, write_report
from zoo.cli.request import Arguments, Request, build_arguments, take_apart
from zoo.cli.session import Session
from zoo.errors import (
    OUT_OF_MEMORY,
    Interrupted,
    NonFiniteLoss,
    UserError,
    is_out_of_memory,
)
from zoo.nets.cost import Profile, profile
from zoo.run.checkpoint import AtomicCheckpointIO, check_fits
from zoo.run.csv_logger import MetricsCSV
from zoo.run.folder import RunFolder, is_first_process, new_run, run_of
from zoo.run.wandb_logger import WandbMode
from zoo.tasks.base import Task
from zoo.tasks.language_model import LanguageModel

import_all()

#: The verbs that run something, and their help.
VERBS = {
    "fit": "Train, then test the best checkpoint.",
    "validate": "Validate a checkpoint.",
    "test": "Test a checkpoint.",
    "predict": "Predict labels and probabilities with a checkpoint.",
}


class ZooCLI(LightningCLI):
    """Builds task, data and Trainer from layers of configuration, and runs a verb in a run folder.

    Args:
        request: The command line, taken apart.
        arguments: What is left to parse.
        session: Takes the run folder and the W&B run.
    """

    def __init__(self, request: Request, arguments: Arguments, session: Session) -> None:
        self.request = request
        self.checkpoint = arguments.checkpoint
        self.session = session
        super().__init__(
            model_class=L.LightningModule,
            datamodule_class=L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
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
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="A checkpoint to start from: a file, or last or best of the newest run.",
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
        """Parse, and check the seed, which Lightning takes before anything is built."""
        super().parse_arguments(parser, args)
        seed = self.config["seed_everything"]
        if not 0 <= int(seed) < 2**32:
            raise refuse("seed_everything", seed, f"give a number from 0 to {2**32 - 1}")

    def _dump_config(self) -> None:
        super()._dump_config()
        # All arguments of a small net may be facts of the data; the dump leaves these out, and
        # Lightning, which records their values, misses the mapping that they stand in.
        net = (self.config_dump.get("model") or {}).get("init_args", {}).get("net")
        if isinstance(net, dict):
            net.setdefault("init_args", {})

    def instantiate_classes(self) -> None:
        """Build data and task; what their constructors refuse is the user's to put right."""
        try:
            super().instantiate_classes()
        except (ValueError, OSError, MisconfigurationException) as error:
            raise refusal(error, self.config) from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the Trainer around a run folder, and check everything before that is created."""
        options = self.config_init["trainer"]
        check_trainer(options)
        check_monitor(self.config["checkpoint"]["monitor"], self.model)
        folder = self._choose_folder(Path(options["default_root_dir"]))
        self.session.folder = folder
        if self.request.verb == "predict":  # one file of all predictions, in their order
            devices = options["devices"]
            kwargs |= {"devices": devices[:1] if isinstance(devices, list) else 1, "num_nodes": 1}
        extra = options.get("logger")
        path = self.request.ckpt_path
        self.checkpoint_io = AtomicCheckpointIO({path: self.checkpoint} if path else {})
        trainer = super().instantiate_trainer(
            default_root_dir=str(folder.path),
            logger=False,  # the loggers write into the folder, which is not there yet
            plugins=[*_as_list(options.get("plugins")), self.checkpoint_io],
            callbacks=[
                TrainLog(),
                *([Progress()] if options["enable_progress_bar"] is not False else []),
                *_as_list(options.get("callbacks")),
                Pictures(),
            ],
        )
        _check_callbacks(trainer, folder.path)
        self.profile = self._check_data_and_net(trainer)
        step = None
        if self.checkpoint is not None:
            check_fits(self.checkpoint, self.model, str(path))
            step = self.checkpoint["global_step"] if folder.resumed else None
            self.checkpoint = None  # the Trainer takes it from the plugin, and lets go of it
        recipe = self._recipe()
        if trainer.is_global_zero:
            folder.open()
            folder.write_recipe(self._recipe_text(recipe))
        loggers: list[Logger] = [MetricsCSV(folder.path, step)]
        loggers += [logger for logger in _as_list(extra) if isinstance(logger, Logger)]
        trainer.loggers = loggers + self._wandb(recipe)
        return trainer

    def _choose_folder(self, root: Path) -> RunFolder:
        if self.request.verb == "fit":
            resumed = run_of(Path(self.request.ckpt_path)) if self.request.ckpt_path else None
            return resumed or new_run(root, self.request.name)
        return new_run(root, self.request.verb)

    def _check_data_and_net(self, trainer: L.Trainer) -> Profile | None:
        """Read the data and runs a batch of no values through the net, before anything is written.

        Only in the first process: it starts the others, or they wait for it.
        """
        data: Any = self.datamodule
        net = self.model.net if isinstance(self.model, Task) else None
        shape, classes = getattr(data, "input_shape", None), getattr(data, "num_classes", None)
        length = getattr(data, "max_length", None) if classes is None else None
        if not trainer.is_global_zero or net is None or (classes is None and length is None):
            return None

        data.trainer = trainer
        data.prepare_data()
        data.setup(self.request.verb)
        if self.request.verb == "fit":
            data.setup("test")  # a fault in the test split had better show before the training
        if length is not None:  # windows of tokens to be predicted
            return profile(net, torch.zeros(1, length, dtype=torch.int64, device="meta"))
        if shape is None:  # texts, whose cost depends on their length
            return profile(net, None)
        if (
            self.request.verb == "fit"
            and classes is not None
            and hasattr(data, "smallest_train_batch")
        ):
            smallest = torch.zeros(data.smallest_train_batch, *shape, device="meta")
            per_pixel = getattr(data, "label_kind", None) == "mask"
            check_net(net, smallest, classes, per_pixel=per_pixel)
        return profile(net, torch.zeros(1, *shape, device="meta"))

    def _recipe(self) -> dict[str, Any]:
        """Return the resolved recipe, which can be run again."""
        text = self.parser.dump(self.config, skip_none=False, format="yaml")
        recipe: dict[str, Any] = yaml.safe_load(text)
        for key in ("ckpt_path", "inputs", "trust", "config"):
            recipe.pop(key, None)
        return recipe

    def _recipe_text(self, recipe: dict[str, Any]) -> str:
        words = " ".join(["zoo", *self.request.argv])
        return f"# {words}\n" + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)

    def _wandb(self, recipe: dict[str, Any]) -> list[Logger]:
        options = self.config_init
        tried_out = self.request.verb == "predict" or options["trainer"]["fast_dev_run"]
        if options["wandb"] == "off" or tried_out:
            return []
        wandb = self.session.start_wandb(
            options["wandb"], recipe, uploads=options["wandb_checkpoint"]
        )
        if is_first_process():
            wandb.best_in_summary("val/loss", "min")
            if isinstance(self.model, Task) and self.model.monitor != "val/loss":
                wandb.best_in_summary(self.model.monitor, self.model.mode)
        return [wandb]

    # ---------------------------------------------------------------- verbs

    def execute(self) -> None:
        """Run the verb."""
        verbs = {
            "fit": self._fit,
            "validate": self._evaluate,
            "test": self._evaluate,
            "predict": self._predict,
        }
        try:
            verbs[self.request.verb]()
        except UserError as error:
            raise refusal(error, self.config) from error

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        assert self.session.folder is not None
        return self.session.folder

    def _fit(self) -> None:
        """Train, test the best checkpoint once, and report."""
        if is_first_process():
            print(describe(self.model, self.datamodule, self.profile))
            verb = "goes on in" if self.folder.resumed else "in"
            print(f"run {verb} {os.path.relpath(self.folder.path)}", flush=True)
        started = time.monotonic()
        self.trainer.fit(self.model, self.datamodule, ckpt_path=self.request.ckpt_path)
        seconds = time.monotonic() - started
        saved = next(c for c in self.trainer.checkpoint_callbacks if isinstance(c, Checkpoints))
        best = saved.best_model_path or saved.last_model_path
        figures: dict[str, float] = {}
        if best and not self.config["trainer"]["fast_dev_run"]:
            self.trainer.test(self.model, self.datamodule, ckpt_path=best, verbose=False)
            figures = test_figures(self.trainer)
        self._report(
            {
                "test": figures,
                "checkpoint": best,
                saved.monitor or "monitor": saved.best_model_score,
                "fit_seconds": round(seconds, 1),
            }
        )
        wandb = self.session.wandb
        if wandb is not None and self.config["wandb_checkpoint"] and best and is_first_process():
            wandb.log_checkpoint(Path(best), {"test": figures})

    def _evaluate(self) -> None:
        """Report the figures of ``test`` or ``validate``."""
        verb = self.request.verb
        run = self.trainer.test if verb == "test" else self.trainer.validate
        started = time.monotonic()
        run(self.model, self.datamodule, ckpt_path=self.request.ckpt_path, verbose=False)
        self._report(
            {
                verb: test_figures(self.trainer),
                "checkpoint": self.request.ckpt_path,
                "seconds": round(time.monotonic() - started, 1),
            }
        )

    def _report(self, report: dict[str, Any]) -> None:
        if is_first_process():
            report["data"] = data_figures(self.datamodule)
            write_report(self.folder, report, self.profile, self.config["seed_everything"])

    def _predict(self) -> None:
        """Predict, print a line for each input and write ``predictions.csv``.

        A language model writes on instead; see :func:`~zoo.cli.chat.write_texts`.
        """
        path = self.request.ckpt_path
        assert path is not None
        if isinstance(self.model, LanguageModel):
            checkpoint = self.checkpoint_io.load_checkpoint(path)
            self.model.load_state_dict(checkpoint["state_dict"])
            self.model.to(self.trainer.strategy.root_device)
            write_texts(self.folder, self.model, self.datamodule)
            return
        batches: Any = self.trainer.predict(self.model, self.datamodule, ckpt_path=path)
        if is_first_process():
            write_predictions(self.folder, batches, self.datamodule)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def quiet() -> None:
    """Keep Lightning's tips and other libraries' deprecations out of a run's output."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    for module in ("lightning", "torchmetrics", "jsonargparse", "torch"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


def _check_callbacks(trainer: L.Trainer, folder: Path) -> None:
    """Keep checkpoints inside the run folder, whatever a recipe names."""
    for callback in trainer.checkpoint_callbacks:
        path = callback.dirpath if isinstance(callback, ModelCheckpoint) else None
        if path and not Path(path).resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"a callback's dirpath {str(path)!r} lies outside the run folder; leave it out"
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
    session = Session()
    code = 1
    signal.signal(signal.SIGINT, _interrupt)
    sys.argv[0] = sys.argv[0] or "zoo"
    try:
        request = take_apart(argv)
        trust(request.trust)
        ZooCLI(request, build_arguments(request), session).execute()
        code = 0
    except UserError:
        code = 2
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"zoo: {OUT_OF_MEMORY}", file=sys.stderr)
    except NonFiniteLoss as error:
        print(f"zoo: {error}; {session.last_good()}", file=sys.stderr)
    except Interrupted as stop:
        code = 128 + stop.signum
        saved = os.path.relpath(stop.saved) if stop.saved else None
        where = f"go on with --ckpt_path {saved}" if saved else "no checkpoint was saved"
        print(f"zoo: stopped; {where}", file=sys.stderr)
    finally:
        session.finish(code)
    return code
