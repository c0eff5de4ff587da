"""Real runs of each kind, kept offline by W&B, and what lies in its files."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import wandb

#: By kind: a recipe that runs anywhere, and what makes its training small.
RUNS = {
    "vision": "resnet --model.net MLP",
    "segmentation": "unet --model.net.width 4 --model.net.depth 2 --data.batch_size 4",
    "text": "bag_of_embeddings --data TextClassification --data.path texts.csv "
    "--data.tokenizer word",
    "lm": "gpt --model.net.num_layers 1 --model.net.embedding_dim 32 --model.net.num_heads 2 "
    "--model.sample_tokens 8 --data TextCorpus --data.path corpus.txt --data.tokenizer char",
    "table": "regression",
}
SHORT = (
    "--trainer.max_epochs 2 --trainer.limit_train_batches 4 --trainer.limit_val_batches 3 "
    "--trainer.limit_test_batches 3 --trainer.log_every_n_steps 2 --trainer.accelerator cpu "
    "--trainer.devices 1 --trainer.enable_progress_bar false --wandb offline --wandb_watch true"
)
#: Texts of six classes: of so many there is a top-5 accuracy.
TEXTS = "text,label\n" + "".join(
    f"{word} number {number},{word}\n"
    for word in ("red", "green", "blue", "black", "white", "grey")
    for number in range(30)
)
#: What W&B notes of a picture and of a table, each under a name of its own.
_PART = re.compile(
    r"\.(_type|count|filenames|format|height|width|_latest_artifact_path|artifact_path|log_mode|"
    r"ncols|nrows|path|sha256|size)$"
)


class Recorded(NamedTuple):
    """A run and the records of its W&B file."""

    folder: Path
    records: list[dict[str, Any]]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    def rows(self) -> list[dict[str, Any]]:
        return [row["item"] for row in self.of_type("history")]

    def logged(self) -> set[str]:
        """What was logged: figures, and media and tables by the names that they have in panels."""
        found = {_PART.sub("", key) for row in self.rows() for key in row}
        return {key for key in found if not key.startswith("_")}

    def table(self, key: str) -> tuple[list[str], list[list[Any]]]:
        """The last table that was logged under a name."""
        files = [
            entry["local_path"]
            for artifact in self.of_type("artifact")
            for entry in artifact["manifest"]["contents"]
            if entry["path"] == f"{key}.table.json"
        ]
        content = json.loads(Path(files[-1]).read_text())
        return content["columns"], content["data"]


@pytest.fixture(scope="session")
def stand_in() -> Any:
    """The module of the server's stand-in."""
    path = Path(__file__).with_name("views_stand_in.py")
    spec = importlib.util.spec_from_file_location("views_stand_in", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def logged_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No login, and W&B as if just imported."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


@pytest.fixture
def server(logged_out: pytest.MonkeyPatch, stand_in: Any) -> Iterator[Any]:
    """A stand-in of the server, at which this process is logged in."""
    found = stand_in.Server()
    logged_out.setenv("WANDB_API_KEY", "0123456789" * 4)
    logged_out.setenv("WANDB_BASE_URL", found.url)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recorded]:
    """A run of a kind, trained when it is asked for first."""

    @cache
    def run(kind: str) -> Recorded:
        folder = tmp_path_factory.mktemp(kind)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        environment |= {"OMP_NUM_THREADS": "1", "HOME": str(folder / "home")}
        environment |= {"ZOO_CACHE": str(folder / "cache")}
        (folder / "texts.csv").write_text(TEXTS)
        (folder / "corpus.txt").write_text("To be, or not to be, that is the question.\n" * 400)
        command = [sys.executable, "-m", "zoo", "fit", *RUNS[kind].split(), *SHORT.split()]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert "left out" not in ended.stderr, ended.stderr
        (segment,) = folder.glob("runs/*/*/wandb/offline-run-*")
        inspect = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", segment]
        text = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
        return Recorded(segment.parents[1], [json.loads(line) for line in text.splitlines()])

    return run
