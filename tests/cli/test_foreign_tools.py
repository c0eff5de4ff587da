"""Loggers and profilers of others beside our own."""

import logging
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.profilers import SimpleProfiler

import datamodules.core.base
import zoo.cli.session
from datamodules.core.description import DescribedWarning
from zoo.catalog.contents import VERBS
from zoo.cli.cli import ZooCLI
from zoo.cli.request import Request
from zoo.cli.session import quiet
from zoo.cli.verbs import run
from zoo.run.signals import stop


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
        request=Request("fit"),
    )
    assert ZooCLI._wandb(cli, {}, [object.__new__(WandbLogger)]) == []
    with pytest.raises(AttributeError, match="_filing"):  # which would start ours
        ZooCLI._wandb(cli, {}, [])


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_a_test_starts_no_wandb_run_unless_it_is_asked_for(verb: str) -> None:
    def loggers(asked: str) -> Any:
        options = {"wandb": asked, "trainer": {"fast_dev_run": False}}
        return ZooCLI._wandb(
            SimpleNamespace(config_init=options, request=Request(verb)),  # type: ignore[arg-type]
            {},
            [],
        )

    assert loggers("auto") == []
    for asked in ("online", "offline"):
        with pytest.raises(AttributeError, match="_filing"):  # which would start it
            loggers(asked)


@pytest.mark.usefixtures("levels")
def test_a_warning_of_ours_is_a_plain_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    quiet()
    for module in (zoo.cli.session, datamodules.core.base):
        line = warnings.formatwarning("look here", UserWarning, str(module.__file__), 7)
        assert line == "zoo: look here\n"
    assert ":7: UserWarning: look" in warnings.formatwarning(
        "look", UserWarning, "/of/others.py", 7
    )


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize("described", [True, False])
def test_what_the_table_says_is_not_warned_of_too(
    described: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quiet(described=described)
        warnings.warn("3 are copies", DescribedWarning, stacklevel=1)
    assert [str(each.message) for each in told] == ([] if described else ["3 are copies"])


def test_a_verb_that_saves_no_checkpoint_says_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> int:
        stop.asked = 15
        raise stop.interrupted()

    monkeypatch.setattr("zoo.cli.verbs.ZooCLI", interrupt)
    monkeypatch.setattr("zoo.cli.verbs.build_arguments", lambda request: None)
    said = {}
    for verb in VERBS:
        assert run(Request(verb)) == 143
        said[verb] = capsys.readouterr().err
    assert said["fit"] == "zoo: stopped; no checkpoint was saved\n"
    assert said["test"] == said["validate"] == "zoo: stopped; no figures were written\n"
    assert said["check"] == "zoo: stopped; it was not tried to its end\n"
    assert said["bench"] == "zoo: stopped; it was not timed to its end\n"
    assert said["predict"] == "zoo: stopped; no predictions were written\n"
