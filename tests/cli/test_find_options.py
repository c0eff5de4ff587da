"""What is read from source is what the parser knows; what ``list`` and ``help`` show of it."""

import importlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from jsonargparse._parameter_resolvers import get_signature_parameters

from zoo.catalog.contents import KINDS, VERBS, entries, exports, search
from zoo.catalog.options import choices_of, options_of
from zoo.catalog.source import find, named_lines
from zoo.cli.cli import ZooCLI
from zoo.cli.guide import line_to_try, uses
from zoo.cli.request import Request, check_early, take_apart
from zoo.cli.sections import RUN_OPTIONS, sections_of
from zoo.errors import UserError
from zoo.metrics.names import FigureName
from zoo.nets.layers.norms import NormName

Zoo = Callable[[str], Any]
CLASSES = [(name, module) for kind in ("nets", "tasks", "data") for name, module in exports(kind)]
CLASSES += [("Trainer", "zoo.cli.trainer"), ("Checkpoints", "zoo.callbacks.checkpoints")]


@pytest.mark.parametrize(("name", "module"), CLASSES)
def test_options_are_those_of_the_parser(name: str, module: str) -> None:
    cls = getattr(importlib.import_module(module), name)
    known = {each.name: each for each in get_signature_parameters(cls, "__init__")}
    found = options_of(f"{module}.{name}")
    assert found is not None
    assert list(found) == list(known)
    for option in found.values():
        required = "empty" in repr(known[option.name].default)
        assert (option.default is None) is required
        assert option.takes
        assert option.about


def test_options_have_default_choices_and_meaning() -> None:
    net = options_of("zoo.GoogLeNet")
    assert net is not None
    assert net["layout"].choices == ("paper", "torchvision", "cifar")
    assert net["layout"].default == "cifar"
    assert net["layout"].about == "Whose GoogLeNet to build."
    assert net["norm"].choices == ("auto", *get_args(NormName))
    assert dict(net["norm"].meanings)["layer"].startswith("Each image over channels and pixels")
    assert net["aux_heads"].takes == "true, false or null"
    assert net["dropout"].takes == "a number or null"
    data = options_of("datamodules.ImageFolder")
    assert data is not None
    assert data["root"].default is None
    assert data["in_channels"].choices == ("1", "3")


def test_a_foreign_builder_is_read_too() -> None:
    assert list(options_of("torchvision.models.resnet18") or {}) == ["weights", "progress"]
    assert options_of("torchvision.models.no_such_net") is None
    assert options_of("no_such_package.Net") is None
    found = find("lightning.pytorch.Trainer")
    assert found is not None
    assert found.module == "lightning.pytorch.trainer.trainer"


def test_sections_of_a_docstring() -> None:
    text = (
        "A net.\n\nArgs:\n    a: One\n        line more.\n    **kw: The rest.\n\nRaises:\n    E: x."
    )
    assert named_lines(text, "Args") == {"a": "One line more.", "kw": "The rest."}
    assert named_lines(text, "Names") == {}


@pytest.mark.parametrize("kind", KINDS)
def test_each_thing_has_a_line_and_a_command_that_is_understood(kind: str) -> None:
    for entry in entries(kind):
        assert entry.about.endswith("."), entry
        assert len(entry.about) <= 110, entry
        line = line_to_try(entry)
        assert line is not None or entry.name == "Task"
        if line is not None:
            verb, *words = shlex.split(line)[1:]
            request = take_apart([verb, *words])
            if verb in VERBS and request.ckpt_path is None:  # else a run has to be there
                check_early(request)


def test_all_figures_of_tasks_are_listed() -> None:
    from zoo.tasks import base, classifier, image_segmenter, language_model, preference, regressor

    given = {"loss", "acc", "balanced_acc", "f1", "top5"}
    for module in (base, classifier, image_segmenter, language_model, preference, regressor):
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, torch.nn.Module):
                given |= set(cls.__dict__.get("derived_names", ()))
    assert given <= set(get_args(FigureName))
    assert set(choices_of("zoo.metrics.names", "FigureName")) == set(get_args(FigureName))


def test_search_by_name_pattern_part_and_line() -> None:
    def names(kind: str | None, pattern: str) -> list[str]:
        return [entry.name for entry in search(kind, pattern)]

    assert names(None, "resnet") == ["resnet"]  # the recipe of that very name
    assert names("nets", "resnet") == ["ResNet"]
    assert names(None, "Classifier") == [
        "RNNClassifier", "TransformerClassifier", "ImageClassifier", "TextClassifier",
    ]  # fmt: skip
    assert names("data", "cifar*") == ["CIFAR10", "CIFAR100"]
    assert names("nets", "residual blocks") == ["ResNet"]  # what its line says
    assert [entry.names.recipe for entry in search(None, "focal") if entry.names] == [
        "resnet", "unet",
    ]  # fmt: skip
    with pytest.raises(UserError, match="nothing among the nets matches 'GoogleNett'; did you"):
        search("nets", "GoogleNett")
    with pytest.raises(UserError, match="did you mean 'RNNClassifier', 'TransformerClassifier', "):
        search(None, "Clasifier")


@pytest.mark.parametrize(
    ("called", "kind"),
    [("net", "nets"), ("loss", "losses"), ("datasets", "data"), ("optimisers", "optimizers")],
)
def test_kinds_by_other_names(called: str, kind: str, zoo: Zoo) -> None:
    assert zoo(f"list {called}").out == zoo(f"list {kind}").out


def test_help_of_a_kind_is_its_list(zoo: Zoo) -> None:
    assert zoo("help recipes").out == zoo("list recipes").out
    assert zoo("help data").out != zoo("list data").out  # which is an option


@pytest.mark.parametrize(
    ("name", "option"),
    [("batch-size", "batch_size"), ("batchsize", "batch_size"), ("learning_rate", "lr")],
)
def test_help_knows_options_that_may_be_meant(name: str, option: str, zoo: Zoo) -> None:
    sentence = f"zoo: nothing is called {name!r}; did you mean the option {option!r}?\n"
    assert zoo(f"help {name}").err == sentence


def test_weights_are_a_kind_and_an_option(zoo: Zoo) -> None:
    assert zoo("list weights").out.startswith("weights:\n")
    assert "  --model.net.weights\n" in zoo("help weights").out


def test_recipes_that_name_a_thing() -> None:
    assert uses(search("nets", "GoogLeNet")[0]) == [
        "inception", "cifar10/inception", "cifar100/inception",
    ]  # fmt: skip
    assert "cifar10/speedrun" in uses(search("optimizers", "muon")[0])


def test_help_shows_all_about_a_thing(zoo: Zoo) -> None:
    shown = zoo("help GoogLeNet").out
    assert shown == zoo("list GoogLeNet").out
    assert "  --model.net.layout\n      Whose GoogLeNet to build. [paper, torchvision or" in shown
    assert "in_channels\n" not in shown  # the data's
    assert "\nRecipes that name it:\n  inception, " in shown
    assert shown.endswith("\nTry:\n  zoo fit --config inception\n")
    assert zoo("help frn").out == (
        "norms:\n  frn\n\n"
        "Filter response normalisation, each image and channel, not centred (arXiv 1911.09737).\n\n"
        "Option: --model.net.norm frn\n\n"
        "Try:\n  zoo fit --config resnet --model.net.norm frn\n"
    )
    assert zoo("help ImageFolder").out.endswith(
        "zoo fit --config resnet --data ImageFolder --data.root ROOT\n"
    )


@pytest.mark.parametrize("name", ["warmup_steps", "--model.warmup_steps", "model.warmup_steps"])
def test_help_shows_an_option(name: str, zoo: Zoo) -> None:
    shown = zoo(f"help {name}").out
    assert shown.startswith("  --model.warmup_steps\n      Optimiser steps of linear warm-up. [a w")
    assert "TextClassifier" in shown


def test_help_shows_what_the_names_of_an_option_mean(zoo: Zoo) -> None:
    shown = zoo("help norm").out
    assert "\n        group: Each image over groups of channels; the safest" in shown
    assert zoo("help nrom").code == 2


def test_help_of_a_verb_starts_with_what_the_recipe_names(zoo: Zoo) -> None:
    shown = zoo("fit --config inception --help").out
    titles = ["net GoogLeNet (another: --model.net NAME):", "task ImageClassifier", "data Digits"]
    titles += ["the run:", "which checkpoints are kept:", "Lightning's Trainer:"]
    places = [shown.index(f"\n{title}") for title in titles]
    assert places == sorted(places)
    assert "[paper, torchvision or cifar; now cifar; default cifar]" in shown
    assert "  --trainer.max_epochs\n" in shown
    assert "torch.nn." not in shown
    other = zoo("fit inception --model.net MLP --model.lr 0.5 --help").out
    assert "\nnet MLP (" in other
    assert "[a number or null; now 0.5; default null]" in other


def test_help_of_what_does_not_train_starts_with_what_a_checkpoint_leaves_open(
    zoo: Zoo, checkpoint: Path
) -> None:
    for line in ("predict --help", f"test --ckpt_path {checkpoint} --help"):
        shown = zoo(line).out
        places = [shown.find(title) for title in ("\nthe run:", "\n--data NAME", "\ndata Digits")]
        places = [place for place in places if place >= 0] + [shown.index("\nLightning's Trainer:")]
        assert places == sorted(places)
        assert "--trainer.max_epochs" not in shown
        assert "--checkpoint.monitor" not in shown
        assert "--wandb_checkpoint" not in shown
        assert shown.find("\ntask ") == -1 or shown.index("\ntask ") > places[-1]


@pytest.mark.parametrize("name", ["quiet", "json", "print_config"])
def test_a_switch_is_neither_required_nor_has_a_default(name: str, zoo: Zoo) -> None:
    for line in ("fit --help", f"help {name}"):
        about = zoo(line).out.split(f"  --{name}\n")[1].split("\n")[0]
        assert about.endswith(".")


@pytest.mark.parametrize("option", [each.name for each in RUN_OPTIONS])
def test_help_shows_options_of_the_run(option: str, zoo: Zoo) -> None:
    assert zoo(f"help {option}").out.startswith(f"  --{option}\n")
    assert zoo(f"help --{option}").out == zoo(f"help {option}").out or option == "json"
    shown = json.loads(zoo(f"help {option} --json").out)
    assert shown[0]["option"] == f"--{option}"
    assert not shown[0]["required"]


def test_a_name_stands_once_under_each_title_of_the_list(zoo: Zoo) -> None:
    titles: dict[str, list[str]] = {}
    for line in zoo("list").out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            names = titles.setdefault(line, [])
        else:
            names.append(line.split()[0])
    assert "losses of masks:" in titles
    assert all(len(names) == len(set(names)) for names in titles.values())


def test_help_of_each_verb_and_section(zoo: Zoo) -> None:
    assert "  --inputs\n" in zoo("predict --help").out
    assert "  --inputs\n" not in zoo("test --help").out
    assert zoo("fit --model.help").out == zoo("list tasks").out
    assert zoo("fit inception --model.help").out == zoo("help ImageClassifier").out
    assert zoo("fit --model.net.help ResNet").out == zoo("help ResNet").out
    assert zoo("fit --data.help=Digits").out == zoo("help Digits").out
    foreign = zoo("fit --model.net.help torchvision.models.resnet18").out
    assert "  --model.net.weights\n" in foreign


def test_help_of_a_checkpoint_is_that_of_its_recipe(zoo: Zoo, checkpoint: Path) -> None:
    shown = zoo(f"predict --ckpt_path {checkpoint} --help").out
    assert "\nnet GoogLeNet (" in shown
    assert "; now 64; default " in shown
    root = f"--trainer.default_root_dir {checkpoint.parents[3]}"
    assert "\nnet GoogLeNet (" in zoo(f"test --ckpt_path best {root} --help").out


def test_json_of_lists_and_things(zoo: Zoo) -> None:
    everything = json.loads(zoo("list --json").out)
    assert {each["kind"] for each in everything} == {kind for kind in KINDS if any(entries(kind))}
    assert everything[0]["name"] == "BagOfEmbeddings"
    (net,) = json.loads(zoo("help GoogLeNet --json").out)
    layout = net["options"][0]
    assert layout == {
        "option": "--model.net.layout", "about": "Whose GoogLeNet to build.",
        "takes": "paper, torchvision or cifar", "choices": ["paper", "torchvision", "cifar"],
        "default": "cifar", "required": False,
    }  # fmt: skip
    assert net["recipes"][0] == "inception"
    assert net["try"] == "zoo fit --config inception"
    (recipe,) = json.loads(zoo("list recipes inception --json").out)
    assert recipe["recipe"]["data"]["class_path"] == "Digits"
    (option,) = json.loads(zoo("help warmup_steps --json").out)
    assert option["default"] == 0


def test_options_of_the_run_are_those_of_the_parser() -> None:
    from lightning.pytorch.cli import LightningArgumentParser

    cli = object.__new__(ZooCLI)
    cli.request = Request("predict")
    parser = LightningArgumentParser()
    parser.link_arguments = lambda *_, **__: None  # type: ignore[method-assign]
    cli.add_arguments_to_parser(parser)
    known = {name for name in vars(parser.get_defaults()) if "." not in name}
    assert known - {"checkpoint"} | {"config", "json", "seed_everything", "print_config"} == {
        option.name for option in RUN_OPTIONS
    }


def test_a_later_class_is_the_one_whose_options_are_known() -> None:
    layer = {"model": {"class_path": "zoo.ImageClassifier", "init_args": {"net": "zoo.MLP"}}}
    sections = {each.prefix: each for each in sections_of([layer], ["--model.net", "zoo.GPT"])}
    assert sections["model.net"].path == "zoo.GPT"
    assert "layout" in sections["model.net"].options
    assert sections["data"].path is None


@pytest.mark.parametrize("name", ["sys.exit", "abc.ABC", "zipimport.zipimporter", "math.pi"])
def test_what_has_no_source_is_not_found(name: str) -> None:
    assert find(name) is None
