"""``zoo bench``: parts of a step by a clock that the test winds, and what the command leaves."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import count, pairwise, repeat
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from datamodules import Digits
from datamodules.language.batch import TokenBatch
from datamodules.text.dataset import TextBatch
from zoo.callbacks.average import WeightAverage
from zoo.cli.request import take_apart
from zoo.errors import OptionError
from zoo.run.signals import stop
from zoo.studies import bench_run
from zoo.studies.bench import against
from zoo.studies.bench_clock import PARTS, DeviceTimer, StepClock, Window, WindowOver, tokens_of
from zoo.studies.bench_report import proportional_from, ratios, row_of, sentences, told
from zoo.studies.bench_run import Contender, Measured
from zoo.studies.tables import read_table
from zoo.tasks import ImageClassifier

Zoo = Callable[..., Any]


class Watch:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits = 0

    def now(self) -> float:
        return self.time

    def seconds(self, marks: Sequence[float]) -> list[float]:
        return [after - before for before, after in pairwise(marks)]


class Event:
    """An event in the queue of a device, which knows its time once it was waited for."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def record(self) -> None:
        self.at = self.watch.time

    def synchronize(self) -> None:
        self.watch.waits += 1

    def elapsed_time(self, other: "Event") -> float:
        assert self.watch.waits
        return 1000 * (other.at - self.at)


class Slow(nn.Module):
    """A net of one layer: 2 seconds forward, 4 back."""

    num_classes = 10

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.watch = watch

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1))
        self.watch.time += 2
        if logits.requires_grad:
            logits.register_hook(self.back)
        return logits

    def back(self, gradient: Tensor) -> None:
        self.watch.time += 4


class SlowTask(ImageClassifier):
    """Clips for 5 seconds, and takes 3 for its schedule."""

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
        self.net.watch.time += 5

    def lr_scheduler_step(self, *args: Any, **kwargs: Any) -> None:
        self.net.watch.time += 3


class SlowLog(L.Callback):
    """Takes 6 seconds within the backward pass and 10 at the end; gives the clock its batches."""

    def __init__(self, watch: Watch, clock: StepClock) -> None:
        self.watch, self.clock = watch, clock

    def on_before_backward(self, *args: Any) -> None:
        self.watch.time += 6

    def on_train_batch_end(self, trainer: Any, task: Any, outputs: Any, batch: Any, i: int) -> None:
        self.clock.batch = batch
        self.watch.time += 10

    def on_train_epoch_end(self, *args: Any) -> None:
        self.watch.time += 1000  # no part of a step


class SlowDigits(Digits):
    """Prepares a batch in 1 second."""

    watch: Watch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.watch.time += 1
        return super().on_after_batch_transfer(batch, dataloader_idx)


@pytest.fixture
def train(trainer: Callable[..., Any]) -> Callable[..., StepClock]:
    """Trains the slow net until enough of its steps are timed, and gives the clock."""

    def run(watch: Watch, timer: Any, *, accumulate: int = 1, **options: Any) -> StepClock:
        clock = StepClock(timer, options.pop("batch_size", 100), seconds=0, **options)
        data = SlowDigits(batch_size=100)
        data.watch = watch
        settings = {"max_epochs": 100, "limit_val_batches": 0, "profiler": clock}
        with pytest.raises(WindowOver):
            trainer(
                callbacks=[SlowLog(watch, clock)], accumulate_grad_batches=accumulate, **settings
            ).fit(SlowTask(Slow(watch), lr=0.01), data)
        return clock

    return run


EXPECTED = {"data": 1, "forward": 2, "backward": 4, "optimizer": 8, "logging": 16, "trainer": 0}


def test_each_moment_of_a_step_belongs_to_one_part(train: Callable[..., StepClock]) -> None:
    watch = Watch()
    window = train(watch, watch, steps=20).window()
    assert window.parts == EXPECTED
    assert (window.seconds, window.sum_of_parts) == (31, 1)
    assert (window.samples, window.tokens, window.unit) == (100, None, "samples")
    assert window.rate == 100 / 31
    assert window.steps >= 40  # epochs' rests of 57 and what lies between epochs left out


def test_on_a_device_nobody_waits_before_the_figures_are_asked_for(
    train: Callable[..., StepClock],
) -> None:
    watch = Watch()
    clock = train(watch, DeviceTimer(lambda: Event(watch)))
    assert watch.waits == 0
    assert clock.window().parts == pytest.approx(EXPECTED)
    assert watch.waits > 0


def test_batches_of_one_optimiser_step_are_timed_alike(train: Callable[..., StepClock]) -> None:
    watch = Watch()
    window = train(watch, watch, accumulate=3, accumulated=3, batch_size=None).window()
    assert window.parts["optimizer"] == pytest.approx(8 / 3)
    assert window.seconds == pytest.approx(23 + 8 / 3)


def walk(
    clock: StepClock, batches: Iterable[Any], action: str, step: Callable[[Any], None]
) -> None:
    """Tell a clock of steps with one action each."""
    first = "[_TrainingEpochLoop].train_dataloader_next"
    for batch in batches:
        clock.start(first)
        clock.stop(first)
        clock.start(action)
        step(batch)
        clock.stop(action)
        clock.batch = batch


def test_the_weights_average_is_of_the_optimisers_part() -> None:
    clock, name = StepClock(watch := Watch(), seconds=0), f"[Callback]{WeightAverage.__name__}"

    def step(batch: Any) -> None:
        watch.time += 1

    with pytest.raises(WindowOver):
        walk(clock, repeat([torch.zeros(4, 1)]), f"{name}.on_train_batch_end", step)
    assert clock.window().parts["optimizer"] == 1


def test_operations_of_forward_and_backward_are_counted(train: Callable[..., StepClock]) -> None:
    watch = Watch()
    layer = 2 * 64 * 10
    assert train(watch, watch, counts=True).flops == 2 * layer  # the images have no gradient
    assert train(watch, watch).flops is None


def test_batches_of_other_sizes_count_where_none_has_that_size(
    train: Callable[..., StepClock],
) -> None:
    watch = Watch()
    window = train(watch, watch, batch_size=13).window()
    assert 57 < window.samples <= 100
    assert window.seconds == pytest.approx(31, rel=0.2)


def test_a_batch_that_an_epoch_has_once_is_timed_whole() -> None:
    clock = StepClock(watch := Watch(), 100, seconds=0)
    samples = (torch.zeros(100 if step % 2 == 0 else 10, 1) for step in count())

    def step(batch: Tensor) -> None:
        watch.time += len(batch)
        clock.batch = batch
        if len(batch) == 10:
            clock.start("[Callback]Any.on_train_epoch_end")

    with pytest.raises(WindowOver):
        walk(clock, samples, "[Strategy]SingleDeviceStrategy.training_step", step)
    assert (clock.window().samples, clock.window().rate) == (100, 1)


def test_texts_of_different_length_are_timed_by_the_token() -> None:
    clock = StepClock(watch := Watch(), seconds=0, steps=8)
    lengths = (torch.tensor([2 + step % 5, 1 + step % 5]) for step in count())
    label = torch.zeros(2, dtype=torch.int64)
    batches = (TextBatch(torch.zeros(2, int(each[0])), label, label, each) for each in lengths)

    def step(batch: TextBatch) -> None:
        watch.time += 0.5 * int(batch.lengths.sum())

    with pytest.raises(WindowOver):
        walk(clock, batches, "[Strategy]SingleDeviceStrategy.training_step", step)
    window = clock.window()
    assert (window.unit, window.rate) == ("tokens", pytest.approx(2))
    assert window.sum_of_parts == pytest.approx(1)


def test_padding_is_no_token() -> None:
    tokens = torch.tensor([[5, 6, 0], [7, 0, 0]])
    index = torch.arange(2)
    plain = TokenBatch(tokens, tokens, index)
    packed = TokenBatch(tokens, tokens, index, tokens, torch.tensor([[0, 0, 1], [0, -1, -1]]))
    found = [tokens_of(plain, 0), tokens_of(plain, None), tokens_of(packed, 0)]
    assert [int(each) for each in found if each is not None] == [3, 6, 4]
    assert tokens_of([torch.zeros(2, 3)], 0) is None


# ---------------------------------------------------------------- the report


def window(seconds: float, samples: float, share: float = 1.0) -> Window:
    return Window(10, samples, None, seconds, dict.fromkeys(PARTS, share * seconds / len(PARTS)))


def measured(size: int, *seconds: float, name: str = "net", **others: Any) -> Measured:
    """A result of a repeat for each of some seconds."""
    windows = [window(each, size) for each in seconds]
    return Measured(name, size, windows=windows, products=[1e9] * len(windows), **others)


def test_figures_are_medians_between_the_least_and_the_most() -> None:
    row = row_of(measured(10, 0.5, 0.25, 2.0, flops=4e6, memory=3_000_000))
    assert (row["step_ms"], row["low_ms"], row["high_ms"]) == (500, 250, 2000)
    assert (row["samples_per_s"], row["low_per_s"], row["high_per_s"]) == (20, 5, 40)
    assert (row["memory_mb"], row["gflop_per_s"]) == (3, 0.08)
    assert row["share_of_product"] == pytest.approx(0.08)
    assert row["sum_of_parts"] == pytest.approx(1)
    assert row["logging_ms"] == pytest.approx(500 / 6)


@pytest.mark.parametrize(
    ("seconds", "start", "words"),
    [
        ([1, 1, 1.1, 2.1, 4], 4, "time grows in proportion to the batch from 4 on"),
        ([1, 1, 1, 1, 1], 16, "time grows less than the batch up to 16"),
        ([1, 2, 4, 8, 16], 1, "time grows in proportion to the batch from 1 on"),
        ([1, 1, 1, 2, 8], None, "fall at the largest batches"),
    ],
)
def test_where_time_begins_to_grow_in_proportion(
    seconds: list[float], start: int | None, words: str
) -> None:
    results = [measured(2**k, each) for k, each in enumerate(seconds)]
    assert proportional_from(results) == start
    assert words in " ".join(sentences(results))


def test_the_product_of_each_precision_is_told() -> None:
    results = [measured(8, 1.0, 1.0), measured(8, 1.0, 1.0, name="half", precision="bf16-mixed")]
    results[1].products = [3e9, 3e9]
    words = told(results).replace("\n", " ")
    assert "resident set at its peak, with all recipes built; product: of two" in words
    assert words.endswith("matrices, 1 GFLOP/s in 32-true and 3 GFLOP/s in bf16-mixed")


def test_the_ratio_is_of_repeats_beside_each_other() -> None:
    results = [measured(8, 1.0, 2.0, 4.0), measured(8, 3.0, 4.0, 4.0, name="other")]
    (found,) = ratios(results)
    assert found == (8, "other", "net", 2, 1, 3)
    assert "batch 8: other takes 2 times the time of net (1 to 3)" in told(results)


def test_tables_are_of_the_terminals_width() -> None:
    results = [
        measured(1024, 1.2345678, 2.3456789, flops=1e12, memory=10**11),
        Measured("net", 4096, "does not fit memory"),
    ]
    text = told(results)
    assert max(map(len, text.splitlines())) <= 100
    assert "net, batch 4096: does not fit memory" in text
    assert "medians of 2 repeats; memory: the process's resident set at its peak; product: " in text
    assert text.startswith("batch  ms a step")


# ---------------------------------------------------------------- the command


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at as few steps as there may be, and multiplies small matrices."""
    monkeypatch.setattr(bench_run, "StepClock", partial(StepClock, seconds=0.0, steps=1))
    monkeypatch.setattr(bench_run, "_PRODUCTS", 1)


RECIPE = "bench --config r.yaml --model.net MLP --trainer.limit_train_batches 9 --repeats 2"


def test_the_command_leaves_a_table_and_a_picture_and_nothing_else(zoo: Zoo, brief: None) -> None:
    before = sorted(Path().iterdir())
    loggers = "--wandb offline --trainer.logger CSVLogger --trainer.logger.save_dir logs"
    ended = zoo(f"{RECIPE} --batch_size 16,4 {loggers}")
    assert (ended.code, ended.err) == (0, "")
    (folder,) = Path("runs/bench").iterdir()
    assert folder.name.startswith("r-")
    assert sorted(path.name for path in folder.iterdir()) == [
        "bench.csv", "bench.json", "bench.png", "table.md",
    ]  # fmt: skip
    left = {path for path in Path().iterdir() if path.name not in ("cache", "runs")}
    assert left == {path for path in before if path.name not in ("cache", "runs")}
    assert [path.name for path in Path("runs").iterdir()] == ["bench"]
    rows: Any = read_table(folder / "bench.csv")
    assert [row["batch_size"] for row in rows] == [4, 16]
    assert all(row[f"{part}_ms"] > 0 for row in rows for part in PARTS)
    # Of the first layer the images need no gradient, of the others three products each.
    first, others = 2 * 64 * 256, 2 * (256 * 256 + 256 * 10)
    assert rows[0]["gflop_per_sample"] == pytest.approx((2 * first + 3 * others) / 1e9)
    assert "r, batch 4: " in ended.out
    assert f"bench in {folder}\n" in ended.out


def test_two_recipes_are_timed_in_turns(
    zoo: Zoo, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    look = Contender.window

    def seen(self: Contender, *args: Any, **kwargs: Any) -> Any:
        order.append(self.name)
        return look(self, *args, **kwargs)

    monkeypatch.setattr(Contender, "window", seen)
    ended = zoo(f"{RECIPE} --json --against model.net.widths=[8] model.lr=0.1")
    other = "model.net.widths=[8] model.lr=0.1"
    assert (ended.code, order) == (0, ["r", other, other, "r"])
    found = json.loads(ended.out)
    assert [row["recipe"] for row in found["rows"]] == ["r", other]
    assert [row["batch_size"] for row in found["rows"]] == [64, 64]
    (ratio,) = found["ratios"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]
    assert found["versions"]["torch"] == version("torch")
    assert not list(Path(found["folder"]).glob("*.png"))


def test_what_is_timed_against_has_the_lines_options_too() -> None:
    request = take_apart(["bench", "inception", "--trainer.precision", "32"])
    other = against(request, ["resnet", "mlp"])
    assert [path.stem for path in other.recipes] == ["resnet", "mlp"]
    assert other.flags == request.flags
    same = against(request, ["model.net.norm=group"])
    assert same.recipes == request.recipes
    assert same.flags == ["--trainer.precision", "32", "--model.net.norm=group"]
    with pytest.raises(OptionError, match=r"option against is 'resnat'; give a file .*'resnet'"):
        against(request, ["resnat"])


def test_a_batch_that_does_not_fit_is_recorded_and_the_smaller_ones_stand(
    zoo: Zoo, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.run.memory.free_memory", lambda: 120_000_000)
    ended = zoo(f"{RECIPE} --model.net.widths [20000] --batch_size 4,1000,1200")
    assert ended.code == 0
    assert "r, batch 1000: does not fit memory\nr, batch 1200: does not fit memory" in ended.out
    (path,) = Path("runs/bench").glob("*/bench.csv")
    status = [row["status"] for row in read_table(path)]
    assert status == ["timed", "does not fit memory", "does not fit memory"]


def test_a_size_that_a_net_refuses_is_told_and_the_others_stand(zoo: Zoo, brief: None) -> None:
    ended = zoo(f"{RECIPE} --model.net.norm batch --batch_size 1,4 --quiet")
    assert ended.code == 0
    assert "r, batch 1: with batches of 1, a batch norm would see one value per chann" in ended.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--batch_size 1,x", "option batch_size is '1,x'; give whole numbers above 0"),
        ("--batch_size 0", "option batch_size is '0'; give whole numbers above 0"),
        ("--batch_size 4,4000", "option batch_size is 4000; give 1258 or less, the training"),
        ("--batch_size", "option --batch_size needs a value"),
        ("--repeats 0", "option repeats is '0'; give a whole number above 0"),
        ("--against", "option --against needs a value"),
        (
            "--batch_size 8 --against data.batch_size=4",
            "data.batch_size=4'; leave it out, or --batch",
        ),
        ("--against nothing", "option against is 'nothing'; give a file or the name of a"),
        ("--against model.net.norm=grop", "model.net.norm"),
        ("--ckpt_path last", "option --ckpt_path does not belong to bench; leave it out"),
        ("--trainer.limit_train_batches 0", "option trainer.limit_train_batches is 0; give more"),
        ("--config nothing", "option config is 'nothing'; give a file or the name of a packaged"),
    ],
)
def test_what_is_refused(refused: Callable[..., str], options: str, words: str) -> None:
    assert words in refused(f"bench --config r.yaml --model.net MLP {options}")


def test_bench_needs_a_recipe(refused: Callable[..., str]) -> None:
    refused("bench", "bench needs a recipe: give --config NAME")


def test_its_help_has_its_own_options(zoo: Zoo) -> None:
    text = zoo("bench --help").out
    for option in ("--batch_size", "--repeats", "--against", "--config"):
        assert f"\n  {option}" in text
    assert "--ckpt_path" not in text
    assert "--batch_size" not in zoo("fit --help").out


def test_the_study_of_step_time_is_of_its_recipes_and_sizes(zoo: Zoo, brief: None) -> None:
    options = ["recipes=[mlp,resnet]", "batch_sizes=[4,2]", "repeats=1"]
    ended = zoo(["sweep", "studies/step_time", *(f"--options.{each}" for each in options)])
    assert ended.code == 0
    assert not stop.is_listening  # else a signal that is another's would stop the next run
    rows: Any = read_table(Path("runs/step_time/table.csv"))
    found = [(row["recipe"], row["batch"]) for row in rows]
    assert found == [("mlp", 2), ("resnet", 2), ("mlp", 4), ("resnet", 4)]
    assert all(row["samples/s"] > 0 for row in rows)
    assert Path("runs/step_time/step_time.png").is_file()
    assert "batch 4: resnet takes " in ended.out
