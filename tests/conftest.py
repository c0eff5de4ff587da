"""What the tests of all packages share."""

import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from matplotlib.figure import Figure
from PIL import Image

if TYPE_CHECKING:
    import lightning as L

PROJECT = Path(__file__).resolve().parents[1]

RECIPE = """\
model:
  class_path: ImageClassifier
  init_args:
    net: {class_path: GoogLeNet}
data: {class_path: Digits, init_args: {batch_size: 64}}
trainer:
  {max_epochs: 1, limit_train_batches: 1, limit_val_batches: 1, limit_test_batches: 1,
   accelerator: cpu, devices: 1, enable_progress_bar: false}
"""


def pytest_xdist_setupnodes() -> None:
    """Give each test process one thread, as they run side by side, a process to a core.

    Here, as OpenMP looks when it is loaded: in a process that already runs it is too late, and two
    threads in each of two processes on two cores wait for each other in loops.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart() -> None:
    """Take the signals that a shell ignores for what it starts in the background."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(number, usual)


def pytest_collection_finish() -> None:
    """Leave the libraries' objects out of each later garbage collection: they stay anyway."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let them be collected at the end, which some libraries look at."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def no_bfloat16() -> Iterator[None]:
    """Make ``precision: auto`` float32 on any machine: tests look at the digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cpu.get_capabilities", dict, raising=False)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, if there is one."""
    root = Path(os.environ.get("ZOO_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data: {root} does not exist (ZOO_TEST_DATA)")
    return root


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let a test draw the same numbers each time, alone or behind others in its process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


@pytest.fixture(scope="session", autouse=True)
def savefig() -> Iterator[Callable[..., None]]:
    """Write blank pictures: to draw them takes longer than all else of a small run.

    Gives what draws them, for ``drawing``.
    """
    with pytest.MonkeyPatch.context() as patch:
        original = Figure.savefig
        patch.setattr(Figure, "savefig", lambda self, path, **_: Image.new("L", (1, 1)).save(path))
        yield original


@pytest.fixture
def drawing(savefig: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the pictures, for a test that looks at them."""
    monkeypatch.setattr(Figure, "savefig", savefig)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Puts back what a run in this process changes for the whole process."""
    from jsonargparse import _common

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    signals = {number: signal.getsignal(number) for number in numbers}
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    settings, environment = dict(_common.parsing_settings), dict(os.environ)
    warning = warnings.formatwarning
    argv, path, folder = list(sys.argv), list(sys.path), Path.cwd()
    try:
        yield
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
        for name, level in levels.items():
            if logging.getLogger(name).level != level:  # it clears a cache of all loggers
                logging.getLogger(name).setLevel(level)
        warnings.formatwarning = warning
        _common.parsing_settings.clear()
        _common.parsing_settings.update(settings)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        sys.argv[:], sys.path[:] = argv, path
        os.chdir(folder)


@pytest.fixture(scope="session")
def parsers() -> dict[str, Any]:
    """The verbs' parsers, once they are built, which takes as long as to parse."""
    return {}


@pytest.fixture
def shared_parsers(parsers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has all commands of these tests use the same parser of a verb."""
    from zoo.cli.cli import ZooCLI

    build = ZooCLI.setup_parser

    def setup_parser(cli: Any, subcommands: bool, options: dict[str, Any], *rest: Any) -> None:
        verb = cli.request.verb
        if verb not in parsers:
            build(cli, subcommands, options, *rest)
            parsers[verb] = cli.parser
        cli.parser = parsers[verb]
        cli.parser.sources = options["sources"]
        vars(cli.parser).pop("print_config", None)  # that an earlier command asked for

    monkeypatch.setattr(ZooCLI, "setup_parser", setup_parser)


@pytest.fixture
def zoo(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    shared_parsers: None,
) -> Callable[[str], Ended]:
    """Runs a command line in this process; its folder holds a small recipe, ``r.yaml``."""
    from zoo.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZOO_DEBUG", raising=False)
    Path("r.yaml").write_text(RECIPE)

    def run(command: str | list[str]) -> Ended:
        capfd.readouterr()
        with _unchanged_process():
            code = main(command.split() if isinstance(command, str) else command)
        ended = Ended(code, *capfd.readouterr())
        print(ended.err)  # shown if the test fails
        return ended

    return run


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., "L.Trainer"]:
    """A quiet Trainer of one epoch on the CPU."""
    import lightning as L

    def make(**options: Any) -> L.Trainer:
        settings: dict[str, Any] = {
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "max_epochs": 1,
        }
        return L.Trainer(**{**settings, **options})

    return make


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run of the small recipe."""
    from zoo.__main__ import main

    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "r.yaml"
    recipe.write_text(RECIPE)
    root = ["--trainer.default_root_dir", str(folder)]
    with _unchanged_process():
        assert main(["fit", "--config", str(recipe), "--wandb", "off", *root]) == 0
    (path,) = folder.glob("r/*/checkpoints/last.ckpt")
    return path


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama, a tokenizer of 300 tokens and a chat template."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = ["system", "user", "assistant", "what", "is", "the", "capital", "of", "this", "name"]
    tokenizer.train_from_iterator([f"{a} {b}" for a in words for b in words], trainer)
    folder = tmp_path_factory.mktemp("llama")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_hidden_layers=2,
            intermediate_size=48,
            max_position_embeddings=128,
            initializer_range=0.2,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder
