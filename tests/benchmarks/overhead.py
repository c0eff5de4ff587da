"""What the zoo's training costs over a hand-written PyTorch loop; run it as a script.

The recipe ``inception`` at batch 128 against a plain loop with the same net, data, optimiser and
schedule, in one process and in turns: first that both see the same losses, then the ratio of their
times over all epochs. Both keep a moving average and save a checkpoint at each epoch's end; the
zoo's run logs and prints besides, as it does for users.

And what a step costs where the net is next to nothing, in microseconds of the processor: in a plain
loop, in Lightning as it comes (no log, no checkpoints), and in the zoo's run.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datamodules import Digits
from datamodules.core.sampling import EpochBatches
from zoo import GoogLeNet, ImageClassifier
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.progress import Progress
from zoo.callbacks.train_log import TrainLog
from zoo.catalog.contents import recipes_folder
from zoo.optim.optimizers import parameter_groups
from zoo.optim.schedules import lr_factor
from zoo.run.checkpoint_io import AtomicCheckpointIO
from zoo.run.csv_logger import MetricsCSV
from zoo.tasks.classifier import Classifier

EPOCHS, BATCH, ROUNDS, SEED = 3, 128, 9, 0
STEPS = 500


def recipe() -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of task and data in the recipe."""
    content = yaml.safe_load((recipes_folder() / "inception.yaml").read_text())
    task = {k: v for k, v in content["model"]["init_args"].items() if k != "net"}
    return task, {**content["data"]["init_args"], "batch_size": BATCH}


def new_net() -> GoogLeNet:
    torch.manual_seed(SEED)
    return GoogLeNet(1, 10, layout="cifar", image_size=8)


def step_seed(epoch: int, batch: int) -> int:
    """The seed that the zoo gives torch before a step: the loop has to draw the same."""
    import numpy as np

    return int(np.random.SeedSequence((SEED, epoch, batch, 0)).generate_state(1, np.uint64)[0])


def by_hand(task: dict[str, Any], data: Digits, folder: Path) -> tuple[list[Tensor], float]:
    """A plain loop, as one would write it for this recipe."""
    net = new_net().to(memory_format=torch.channels_last).train()
    dataset = data.split("train")
    epoch = 0
    batches = EpochBatches(
        len(dataset), BATCH, training=True, seed=SEED, position=lambda: (epoch, 0)
    )
    optimizer = torch.optim.AdamW(parameter_groups(net, task["weight_decay"]), lr=task["lr"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_factor(task["schedule"], step, total_steps=EPOCHS * len(batches)),
    )
    average = AveragedModel(
        net, multi_avg_fn=get_ema_multi_avg_fn(task["ema_decay"]), use_buffers=True
    )
    losses = []
    start = time.perf_counter()
    for epoch in range(EPOCHS):
        for number, rows in enumerate(batches):
            batch = data.prepare_batch(dataset.__getitems__(rows), training=True, epoch=epoch)
            torch.manual_seed(step_seed(epoch, number))
            loss = F.cross_entropy(
                net(batch.image), batch.label, label_smoothing=task["label_smoothing"]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
            losses.append(loss.detach())
        parts = {"net": net, "average": average, "optimizer": optimizer, "schedule": schedule}
        torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "last.ckpt")
    return losses, time.perf_counter() - start


class Watch(L.Callback):
    """Times training and keeps its losses."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        self.losses.append(outputs["loss"].detach())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = time.perf_counter() - self.start


def by_zoo(task: dict[str, Any], data: Digits, folder: Path) -> tuple[list[Tensor], float]:
    """The same through task and Trainer, with the log, the checkpoints and the progress lines."""
    watch = Watch()
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        limit_val_batches=0,
        log_every_n_steps=10,
        logger=[MetricsCSV(folder)],
        plugins=[AtomicCheckpointIO()],
        callbacks=[TrainLog(), Progress(), Checkpoints(), watch],
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(ImageClassifier(new_net(), **task), data)
    return watch.losses, watch.seconds


class Batches:
    """Batches that lie ready."""

    def __init__(self) -> None:
        torch.manual_seed(SEED)
        rows = zip(torch.randn(STEPS, 32, 16), torch.randint(0, 10, (STEPS, 32)), strict=True)
        self.rows = list(rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def next_to_nothing() -> nn.Module:
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))


class Bare(L.LightningModule):
    """A module as Lightning's guide has it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = next_to_nothing()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(parameter_groups(self.net, 0.01), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class Clock(L.Callback):
    """Counts the processor's seconds from the first step to the last."""

    def on_train_epoch_start(self, *args: Any) -> None:
        self.start = time.process_time()

    def on_train_epoch_end(self, *args: Any) -> None:
        self.seconds = time.process_time() - self.start


def steps_by_hand(batches: Batches) -> float:
    module = Bare()
    parts = module.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    start = time.process_time()
    for number, batch in enumerate(batches):
        loss = module.training_step(batch, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return time.process_time() - start


def steps_by_trainer(batches: Batches, task: L.LightningModule, **options: Any) -> float:
    clock = Clock()
    callbacks = [clock, *options.pop("callbacks", [])]
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        callbacks=callbacks,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(task, batches)
    return clock.seconds


def compare_steps() -> None:
    """Print what a step of next to nothing costs, in turns."""
    batches, found = Batches(), []
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar"), False
    )
    for _ in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder:
            ours = Classifier(next_to_nothing(), num_classes=10)
            of_zoo: dict[str, Any] = {
                "default_root_dir": folder,
                "logger": [MetricsCSV(Path(folder))],
                "plugins": [AtomicCheckpointIO()],
                "callbacks": [TrainLog(), Progress(), Checkpoints()],
            }
            seconds = (
                steps_by_hand(batches),
                steps_by_trainer(batches, Bare(), **quiet),
                steps_by_trainer(batches, ours, **of_zoo),
            )
        found.append([1e6 * each / STEPS for each in seconds])
    hand, bare, ours = zip(*found[1:], strict=True)  # the first round warms up
    for name, each in (("plain loop", hand), ("bare Lightning", bare), ("zoo", ours)):
        print(f"{name:15s} {statistics.median(each):5.0f} us/step")
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    print(f"zoo over bare Lightning: median {statistics.median(ratios):.2f} of {ROUNDS} rounds")


def main() -> int:
    from zoo.cli.session import quiet

    quiet()
    compare_steps()
    task, options = recipe()
    data = Digits(seed=SEED, **options)
    data.setup("fit")
    ratios, losses_equal = [], True
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):
            path = Path(folder) / str(number)
            path.mkdir()
            data.trainer = None
            hand, hand_s = by_hand(task, data, path)
            zoo, zoo_s = by_zoo(task, data, path)
            losses_equal &= len(hand) == len(zoo) and torch.equal(
                torch.stack(hand), torch.stack(zoo)
            )
            if number:  # the first round warms up
                ratios.append(zoo_s / hand_s)
                steps = len(hand)
                print(
                    f"by hand {1e3 * hand_s / steps:.1f} ms/step, zoo {1e3 * zoo_s / steps:.1f} "
                    f"ms/step, ratio {ratios[-1]:.3f}"
                )
    print(f"{len(hand)} losses equal bit by bit: {losses_equal}")
    print(f"median ratio {statistics.median(ratios):.3f} over {ROUNDS} rounds, batch {BATCH}")
    return 0 if losses_equal else 1


if __name__ == "__main__":
    sys.exit(main())
