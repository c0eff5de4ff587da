"""``trainer.precision: auto`` is decided by the processor and the kind of net, once a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zoo as package
from datamodules import Digits
from zoo import GPT, MLP, GoogLeNet, RNNClassifier
from zoo.run.precision import allow_tf32, choose_precision, computing_in, has_bfloat16

Zoo = Callable[[str], Any]
FIT = "fit --config r.yaml --wandb off"


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the CPU one that has these capabilities."""

    def have(*names: str) -> None:
        known = {"architecture": "x86_64", "avx2": True} | dict.fromkeys(names, True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)

    return have


def the_run(root: str = "runs/r") -> tuple[Path, str, str, str]:
    """The newest run, and the precision in its recipe, its summary and its checkpoint."""
    run = max(Path(root).iterdir())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())["trainer"]["precision"]
    summary = json.loads((run / "summary.json").read_text())["precision"]
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["zoo"]["precision"]
    return run, recipe, summary, saved


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_has_bfloat16_if_it_says_so(processor: Callable[..., None], name: str) -> None:
    processor()
    assert not has_bfloat16("cpu")
    processor(name)
    assert has_bfloat16("cpu")


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (lambda: GoogLeNet(1, 10), "bf16-mixed"),
        (lambda: RNNClassifier(50, 2, cell="lstm"), "bf16-mixed"),
        (lambda: RNNClassifier(50, 2, cell="gru"), "32-true"),
        (lambda: MLP(4, 2), "32-true"),
        (lambda: GPT(50, embedding_dim=8, num_heads=2, num_layers=1), "32-true"),
    ],
)
def test_a_kind_of_net_that_gains_takes_it(
    processor: Callable[..., None], net: Callable[[], torch.nn.Module], expected: str
) -> None:
    processor("avx512_bf16")
    assert choose_precision(net(), "cpu", None, goes_on=False) == expected
    processor()
    assert choose_precision(net(), "cpu", None, goes_on=False) == "32-true"


def test_on_a_gpu_every_net_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    emulates = {"including_emulation": None}
    for native in (True, False):

        def supported(including_emulation: bool = True, native: bool = native) -> bool:
            emulates["including_emulation"] = including_emulation
            return native

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        expected = "bf16-mixed" if native else "32-true"
        assert choose_precision(MLP(4, 2), "cuda", None, goes_on=False) == expected
        assert emulates["including_emulation"] is False


def test_a_gpu_may_take_tf32_where_it_takes_half_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    allow_tf32("32-true", "cuda")
    allow_tf32("bf16-mixed", "cpu")
    assert asked == []
    allow_tf32("bf16-mixed", "cuda")
    assert asked == ["high"]


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_it_does_so_within_what_computes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `zoo predict` and `zoo.load` give the same numbers, and a program keeps its own."""
    before = torch.get_float32_matmul_precision()
    for precision, within in (("bf16-mixed", "high"), ("16", "high"), ("32-true", before)):
        with computing_in(precision, "cuda"):
            assert torch.get_float32_matmul_precision() == within
        assert torch.get_float32_matmul_precision() == before


def test_half_precision_of_a_cpu_is_bfloat16() -> None:
    with computing_in("16-mixed", "cpu"):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16


def test_a_task_evaluates_in_the_precision_of_its_run(
    zoo: Zoo, processor: Callable[..., None]
) -> None:
    """Its figures are those of `zoo test`; in float32 they would be others."""
    processor("avx512_bf16")
    assert zoo(FIT).code == 0
    checkpoint = f"{the_run()[0]}/checkpoints/last.ckpt"
    ended = zoo(f"test --ckpt_path {checkpoint} --wandb off --json")
    assert ended.code == 0
    tested = json.loads(ended.out)["test"]
    task: Any = package.load(checkpoint, device="cpu").task
    same = pytest.approx(tested["loss"], rel=1e-6)
    assert task.evaluate(Digits())["loss"] == same
    task._trained_in = "32-true"
    assert task.evaluate(Digits())["loss"] != same


def test_a_run_keeps_the_precision_that_it_began_with(
    zoo: Zoo, processor: Callable[..., None]
) -> None:
    processor("avx512_bf16")
    ended = zoo(FIT)
    assert ended.code == 0
    assert "precision bf16-mixed" in ended.out
    run, *precisions = the_run()
    assert precisions == ["bf16-mixed"] * 3

    processor()  # another machine
    assert zoo(f"test --ckpt_path {run}/checkpoints/last.ckpt --wandb off").code == 0
    (tested,) = Path("runs/test").iterdir()
    assert json.loads((tested / "summary.json").read_text())["precision"] == "32-true"
    ended = zoo(f"{FIT} --ckpt_path last --trainer.max_epochs 2")
    assert ended.code == 0
    assert "began with" not in ended.out
    assert the_run() == (run, *["bf16-mixed"] * 3)

    ended = zoo(f"{FIT} --ckpt_path last --trainer.max_epochs 3 --trainer.precision 32")
    assert ended.out.startswith("precision 32-true, where the run began with bf16-mixed\n")


def test_an_option_wins_over_the_processor(zoo: Zoo, processor: Callable[..., None]) -> None:
    processor("avx512_bf16")
    assert zoo(f"{FIT} --trainer.precision 32").code == 0
    assert the_run()[3] == "32-true"


def test_on_other_processors_it_is_float32(zoo: Zoo, processor: Callable[..., None]) -> None:
    processor()
    ended = zoo(FIT)
    assert "precision 32-true" in ended.out
    assert the_run()[1:] == ("32-true", "32-true", "32-true")


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "64"])
def test_a_recipe_names_it_as_lightnings_do(zoo: Zoo, precision: str) -> None:
    recipe = (
        Path("r.yaml").read_text().replace("{max_epochs", f"{{precision: {precision}, max_epochs")
    )
    Path("r.yaml").write_text(recipe)
    ended = zoo(f"{FIT} --trainer.fast_dev_run true")
    assert ended.code == 0
    meant = {"32": "32-true", "64": "64-true"}.get(precision, precision)
    assert f"precision {meant}" in ended.out
