"""Loggers and profilers of others beside our own."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.profilers import SimpleProfiler

from zoo.cli.cli import ZooCLI
from zoo.cli.session import quiet


@pytest.fixture
def levels() -> Iterator[None]:
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.profilers")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("levels")
def test_a_profilers_report_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    handler = logging.StreamHandler()
    monkeypatch.setattr(handler, "emit", lambda record: printed.append(record.getMessage()))
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "handlers", [handler])
    quiet()
    profiler = SimpleProfiler()
    with profiler.profile("a step"):
        pass
    profiler.describe()
    assert "a step" in printed[0]
    logging.getLogger("lightning.pytorch.trainer").info("a tip")
    assert len(printed) == 1


def test_a_wandb_logger_takes_the_place_of_ours() -> None:
    cli: Any = SimpleNamespace(
        config_init={"wandb": "offline", "trainer": {"fast_dev_run": False}},
        request=SimpleNamespace(verb="fit"),
    )
    assert ZooCLI._wandb(cli, {}, [object.__new__(WandbLogger)]) == []
    with pytest.raises(AttributeError, match="session"):  # which would start ours
        ZooCLI._wandb(cli, {}, [])
