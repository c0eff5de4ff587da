"""Seconds to a validation loss: the recipe shakespeare/gpt_char_cpu and nanoGPT's CPU setting.

Both train in this process, in turns, on the same characters; only training is timed. nanoGPT's
setting is restated here in plain PyTorch after its README: 4 layers of 4 heads and 128 features,
contexts of 64, batches of 12, no dropout and no biases, AdamW with a peak rate of 1e-3 (100 steps
of warm-up, a cosine down to 1e-4), weight decay 0.1, betas 0.9 and 0.99, gradients clipped at 1;
2,000 steps.

    python tests/benchmarks/lm.py ../shared/data/text/tinyshakespeare/input.txt [LOSS]
"""

import math
import sys
import time
from itertools import pairwise

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from datamodules import TextCorpus
from zoo import GPT, LanguageModel
from zoo.catalog.contents import recipes_folder

CONTEXT, STEPS = 64, 2000


class NanoBlock(nn.Module):
    """A layer of nanoGPT without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(128, bias=False), nn.LayerNorm(128, bias=False)
        self.qkv, self.out = nn.Linear(128, 384, bias=False), nn.Linear(128, 128, bias=False)
        self.up, self.down = nn.Linear(128, 512, bias=False), nn.Linear(512, 128, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:2], 4, 32)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class NanoGPT(nn.Module):
    """nanoGPT's CPU setting: 4 layers of 128 features, tied embeddings."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocab_size, 128), nn.Embedding(CONTEXT, 128)
        self.blocks = nn.Sequential(*(NanoBlock() for _ in range(4)))
        self.norm = nn.LayerNorm(128, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                is_last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(8) if is_last else 0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.token.weight)


class Nano:
    """nanoGPT's training, a step at a time."""

    def __init__(self, text: np.ndarray, vocab_size: int) -> None:
        torch.manual_seed(0)
        self.text = torch.from_numpy(text.astype(np.int64))
        self.net = NanoGPT(vocab_size)
        matrices = [p for p in self.net.parameters() if p.ndim == 2]
        norms = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [
            {"params": matrices, "weight_decay": 0.1},
            {"params": norms, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(0)
        self.step_count = 0

    def step(self) -> None:
        step = self.step_count
        rate = 1e-3 * (step + 1) / 101
        if step >= 100:
            done = (step - 100) / (STEPS - 100)
            rate = 1e-4 + 0.5 * (1 + math.cos(math.pi * done)) * 9e-4
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(self.text) - CONTEXT, (12,), generator=self.generator)
        rows = self.text[starts[:, None] + torch.arange(CONTEXT + 1)]
        logits = self.net(rows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1


@torch.no_grad()
def validation_loss(net: nn.Module, data: TextCorpus) -> float:
    training = net.training
    net.eval()
    total, count = 0.0, 0
    dataset = data.split("val")
    bounds = [*range(0, len(dataset), 64), len(dataset)]
    for start, stop in pairwise(bounds):
        batch = dataset.__getitems__(list(range(start, stop)))
        losses = F.cross_entropy(
            net(batch.tokens).flatten(0, 1), batch.labels.flatten(), reduction="sum"
        )
        total, count = total + float(losses), count + int((batch.labels >= 0).sum())
    net.train(training)
    return total / count


class Race(L.Callback):
    """Lets nanoGPT train between the steps of the recipe, and notes who is where."""

    def __init__(self, data: TextCorpus, goal: float, our_steps: int) -> None:
        self.data, self.goal = data, goal
        self.turns = STEPS / our_steps
        self.seconds = {"ours": 0.0, "nanoGPT": 0.0}
        self.reached: dict[str, tuple[float, int]] = {}
        self.losses: dict[str, float] = {}

    def on_train_start(self, trainer, pl_module):
        self.nano = Nano(self.data.split("train").store.tokens[:], self.data.vocab_size)
        self.mark = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seconds["ours"] += time.perf_counter() - self.mark
        step = trainer.global_step
        if step % 10 == 0:
            self.look("ours", pl_module.net, step)
        while self.nano.step_count < min(STEPS, round(step * self.turns)):
            start = time.perf_counter()
            self.nano.step()
            self.seconds["nanoGPT"] += time.perf_counter() - start
            if self.nano.step_count % 100 == 0:
                self.look("nanoGPT", self.nano.net, self.nano.step_count)
        self.mark = time.perf_counter()

    def look(self, who: str, net: nn.Module, step: int) -> None:
        loss = self.losses[who] = validation_loss(net, self.data)
        if loss <= self.goal and who not in self.reached:
            self.reached[who] = self.seconds[who], step
        print(f"{who}: step {step}, {self.seconds[who]:.1f} s, loss {loss:.4f}", flush=True)


def main() -> None:
    path = sys.argv[1]
    goal = float(sys.argv[2]) if len(sys.argv) > 2 else 1.88
    torch.set_flush_denormal(True)
    recipe = yaml.safe_load((recipes_folder() / "shakespeare/gpt_char_cpu.yaml").read_text())
    given = recipe["model"]["init_args"]
    data = TextCorpus(**{**recipe["data"]["init_args"], "path": path})
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(0)
    net = GPT(data.vocab_size, data.max_length, **given["net"]["init_args"])
    options = {name: value for name, value in given.items() if name != "net"}
    task = LanguageModel(net, sample_tokens=0, **options)
    epochs = recipe["trainer"]["max_epochs"]
    race = Race(data, goal, epochs * len(data.train_dataloader()))
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[race],
    )
    trainer.fit(task, data)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for who, seconds in race.seconds.items():
        at = race.reached.get(who)
        when = f"{goal} after {at[0]:.1f} s (step {at[1]})" if at else f"{goal} not reached"
        print(f"{who}: {seconds:.1f} s in all, last loss {race.losses[who]:.4f}, {when}")
    if len(race.reached) == 2:
        print(f"ratio {race.reached['ours'][0] / race.reached['nanoGPT'][0]:.2f}")


if __name__ == "__main__":
    main()
