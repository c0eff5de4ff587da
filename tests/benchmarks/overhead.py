"""What the zoo's training costs over a hand-written PyTorch loop; run it as a script.

The recipe ``inception`` at batch 128 against a plain loop with the same net, data, optimiser and
schedule, in one process and in turns: first that both see the same losses, then the ratio of their
times over all epochs. Both keep a moving average and save a checkpoint at each epoch's end; the
zoo's run logs and prints besides, as it does for users.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from datamodules import Digits
from datamodules.core.sampling import EpochBatches
from zoo import GoogLeNet, ImageClassifier
from zoo.callbacks.checkpoints import Checkpoints
from zoo.callbacks.progress import Progress
from zoo.callbacks.train_log import TrainLog
from zoo.cli.catalog import recipes_folder
from zoo.optim.optimizers import parameter_groups
from zoo.optim.schedules import lr_factor
from zoo.run.checkpoint import AtomicCheckpointIO
from zoo.run.csv_logger import MetricsCSV

EPOCHS, BATCH, ROUNDS, SEED = 3, 128, 9, 0


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


def main() -> int:
    from zoo.cli.session import quiet

    quiet()
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
