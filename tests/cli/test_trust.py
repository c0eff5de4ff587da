"""A recipe names classes that have a place and a few builders; nothing else is called or imported.

Canaries are put wherever a value can name something: all that the trusted packages hold, and
stand-ins of every sort among it, which tell if they are called.
"""

import ast
import functools
import importlib
import inspect
import json
import re
import sys
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler
from torch import nn
from torchvision import models

from zoo.cli.inside import FOLDERS
from zoo.cli.parser import ZooParser
from zoo.errors import UserError
from zoo.run.trust import KINDS, TRUSTED, trust, why_refused
from zoo.tasks import ImageClassifier

FIT = "fit --config r.yaml --wandb off "
#: Untrusted packages of the environment, from which code could be fetched or run.
OTHERS = ("transformers", "peft", "lightning", "torch", "subprocess", "os", "jsonargparse")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy of a command line without ``--trust``."""
    from jsonargparse import _common

    importlib.import_module("zoo.cli.cli")  # all that a command has loaded
    monkeypatch.setattr(_common, "parsing_settings", dict(_common.parsing_settings))
    trust([])


# ---------------------------------------------------------------------- all names that there are


def loaded(package: str) -> Iterator[str]:
    yield from (name for name in list(sys.modules) if f"{name}.".startswith(f"{package}."))


def callables(module: str) -> Iterator[tuple[str, Any]]:
    """Whatever can be called in a module, methods of its classes included."""
    for name, value in list(vars(sys.modules[module]).items()):
        if callable(value):
            yield f"{module}.{name}", value
        if isinstance(value, type) and value.__module__ == module:
            yield from ((f"{module}.{name}.{method}", None) for method in vars(value))


@pytest.mark.parametrize("package", [*TRUSTED, *OTHERS])
def test_no_callable_may_be_named_but_classes_with_a_place_and_builders(package: str) -> None:
    timm = importlib.import_module("timm")
    importlib.import_module(package)
    builders = [timm.create_model, *map(models.get_model_builder, models.list_models())]
    modules = set(sys.modules)
    seen = 0
    for name, value in chain.from_iterable(map(callables, loaded(package))):
        seen += 1
        try:
            refused = why_refused(name) is not None
        except (ImportError, AttributeError):
            refused = True
        if not refused:
            assert any(name.startswith(f"{each}.") for each in TRUSTED)
            is_class = isinstance(value, type) and issubclass(value, KINDS)
            assert is_class or value in builders
    assert seen > 0
    assert set(sys.modules) == modules


def test_where_timm_is_not_installed_the_sentence_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    project = Path(__file__).parents[2] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    (wanted,) = (each for each in extras["test"] if each.startswith("timm"))
    why = why_refused("timm.create_model")
    assert why == f"but timm is not installed; pip install '{wanted}'"
    pinned = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert "timm>=1.0.31,<1.1" in pinned


def test_a_module_that_is_not_loaded_stays_so() -> None:
    importlib.import_module("timm")
    tried = 0
    for package in TRUSTED:
        root = Path(importlib.import_module(package).__path__[0])
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join([package, *(part for part in parts if part != "__init__")])
            if module in sys.modules:
                continue
            tried += 1
            with pytest.raises(ImportError):
                why_refused(f"{module}.run")
            assert module not in sys.modules
    assert tried > 0


# ----------------------------------------------------------------- all places where one can stand


class Called(Exception):
    """A canary sang."""


def sing(*args: Any, **kwargs: Any) -> Any:
    raise Called(args)


class Bird:
    """A class without a place, whose instances can be called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        sing()

    __call__ = sing


class Nest(nn.Module):
    """A net, as an instance, and with methods."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        sing()

    hatch = staticmethod(sing)


def plant(monkeypatch: pytest.MonkeyPatch, package: str) -> Iterator[str]:
    """Put canaries into a package, and give their names."""
    module = sys.modules[package]

    def function(*args: Any, **kwargs: Any) -> nn.Module:
        raise Called

    planted = {
        "function_canary": function,
        "partial_canary": functools.partial(function),
        "bird_canary": type("bird_canary", (Bird,), {}),
        "nest_canary": Nest(),
        "method_canary": Nest().hatch,
    }
    for name, value in planted.items():
        if isinstance(value, types.FunctionType | type):
            value.__module__, value.__qualname__ = package, name
        monkeypatch.setattr(module, name, value, raising=False)
        yield f"{package}.{name}"


def hints(packages: Iterable[str]) -> dict[str, Any]:
    """The types of all arguments that the classes with a place and the builders take."""
    found: dict[str, Any] = {}
    names = chain.from_iterable(callables(module) for each in packages for module in loaded(each))
    targets = {value for name, value in names if value and is_allowed(name)}
    for target in targets:
        parser = ZooParser()
        is_class = isinstance(target, type)
        add = parser.add_class_arguments if is_class else parser.add_function_arguments
        try:
            add(target, "x", fail_untyped=False)
        except Exception:
            continue  # none that a parser could give
        for action in parser._actions:
            if hint := getattr(action, "_typehint", None):
                found.setdefault(str(hint), hint)
    return found


def is_allowed(name: str) -> bool:
    try:
        return why_refused(name) is None
    except (ImportError, AttributeError):
        return False


def try_all(types_: dict[str, Any], canaries: list[str]) -> int:
    """Put each canary at each place, as a name and as a class with arguments."""
    tried = 0
    for hint in types_.values():
        parser = ZooParser()
        parser.add_argument("--x", type=hint)
        for name in canaries:
            for value in (name, {"class_path": name, "init_args": {}}, [{"class_path": name}]):
                tried += 1
                try:
                    config = parser.parse_object({"x": value})
                    built = parser.instantiate_classes(config).x
                except (UserError, ArgumentError):
                    continue
                assert is_text(built), f"{name} at {hint}: {built}"
    return tried


def is_text(value: Any) -> bool:
    """Whether a value is still the name that was given, in lists and mappings."""
    if isinstance(value, dict | Namespace):
        value = [*vars(value).values()] if isinstance(value, Namespace) else [*value.values()]
    if isinstance(value, list | tuple | set):
        return all(map(is_text, value))
    return isinstance(value, str | bytes | Path)


#: Those whose arguments are soon looked through.
QUICK = tuple(name for name in TRUSTED if name.startswith(("zoo", "lightning")))


def test_a_name_calls_nothing_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = [*plant(monkeypatch, "zoo.cli.cli")]
    assert try_all(hints(QUICK), canaries) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("package", TRUSTED)
def test_no_package_has_a_place_for_canaries(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("timm")
    canaries = [*plant(monkeypatch, package)]
    assert try_all(hints(TRUSTED), canaries) > 5000


# ------------------------------------------------------------------------------ whole commands

#: What executed code in 0.1.0.
KNOWN = (
    "zoo.cli.verbs.run",
    "zoo.__main__.main",
    "zoo.cli.export.load_task",
    "transformers.pipeline",
    "transformers.AutoConfig.from_pretrained",
    "transformers.dynamic_module_utils.get_class_from_dynamic_module",
    "transformers.utils.import_utils.direct_transformers_import",
    "transformers.EncoderDecoderModel.from_encoder_decoder_pretrained",
    "transformers.VisionEncoderDecoderModel.from_encoder_decoder_pretrained",
    "peft.AutoPeftModel.from_pretrained",
    "torch.nn.functional.relu",
    "torch.hub.load",
    "timm.models.load_checkpoint",
    "torchvision.models.get_model",
)
LAMBDA = "--trainer.callbacks+=LambdaCallback --trainer.callbacks."
PLACES = {
    "model": "--model {}",
    "net": "--model.net {}",
    "norm_layer": "--model.net torchvision.models.resnet18 --model.net.norm_layer {}",
    "activation": "--model.net torch.nn.TransformerEncoderLayer --model.net.d_model 8 "
    "--model.net.nhead 1 --model.net.activation {}",
    "data": "--data {}",
    "on_fit_start": LAMBDA + "on_fit_start {}",
    "setup": LAMBDA + "setup {}",
    "avg_fn": "--trainer.callbacks+=StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.1 "
    "--trainer.callbacks.avg_fn {}",
    "lambda_func": "--trainer.callbacks+=BackboneFinetuning --trainer.callbacks.lambda_func {}",
    "callbacks": "--trainer.callbacks+={}",
    "ddp_comm_hook": "--trainer.strategy DDPStrategy --trainer.strategy.ddp_comm_hook {}",
    "strategy": "--trainer.strategy {}",
    "logger": "--trainer.logger {}",
    "profiler": "--trainer.profiler {}",
    "plugins": "--trainer.plugins {}",
}


def refuses(zoo: Callable[[str], Any], place: str, name: str, arguments: bool) -> None:
    value = name
    if arguments:  # a class's, as a recipe gives them, in a file of their own
        Path("spec.yaml").write_text(
            json.dumps({"class_path": name, "init_args": {"argv": ["list"]}})
        )
        value = "spec.yaml"
    modules = set(sys.modules)
    ended = zoo(FIT + PLACES[place].format(value))
    assert ended.code == 2
    assert ended.err.startswith("zoo: ")
    assert ended.err.count("\n") == 1
    assert "--trust zoo" not in ended.err
    assert not Path("runs").exists()
    # What may be named is looked for in torchvision and timm, which are trusted.
    known, package = {each.split(".")[0] for each in TRUSTED}, name.split(".")[0]
    assert package in known or package not in {
        each.split(".")[0] for each in set(sys.modules) - modules
    }


@pytest.mark.parametrize(
    ("place", "name", "arguments"),
    zip(PLACES, chain(KNOWN, KNOWN), cycle([False, True]), strict=False),
)
def test_a_command_refuses_what_is_called(
    place: str, name: str, arguments: bool, zoo: Callable[[str], Any]
) -> None:
    refuses(zoo, place, name, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("arguments", [False, True])
def test_all_places_refuse_what_is_called(
    name: str, arguments: bool, zoo: Callable[[str], Any]
) -> None:
    for place in PLACES:
        refuses(zoo, place, name, arguments)


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_trust_does_not_reach_past_the_nets(package: str, zoo: Callable[[str], Any]) -> None:
    ended = zoo(f"{FIT} --trust {package}")
    assert ended.code == 2
    assert "reached through" in ended.err


@pytest.mark.parametrize("kind", [Callback, Logger, Profiler])
def test_arguments_that_name_a_folder_are_known(kind: type) -> None:
    """What Lightning's own classes write to; a new one is added to what lies in the run folder."""
    names = chain.from_iterable(map(callables, loaded("lightning.pytorch")))
    classes = {each for _, each in names if isinstance(each, type) and issubclass(each, kind)}
    assert len(classes) > 4
    given = set(chain.from_iterable(inspect.signature(each).parameters for each in classes))
    files = {name for name in given if re.search("(dir|path|folder|directory)$", name)}
    assert files - {"sub_dir", "save_to_log_dir"} <= set(FOLDERS)  # they lie in another


def test_transformers_are_never_asked_to_run_a_models_own_code() -> None:
    root = Path(__file__).parents[2]
    asked = []
    for path in chain(root.glob("zoo/**/*.py"), root.glob("datamodules/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(ast.Name(owner), "from_pretrained")) if (
                    owner.startswith("Auto")
                ):
                    given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                    asked.append((path.name, given.get("trust_remote_code")))
    assert len(asked) > 3
    assert {code for _, code in asked} == {"False"}, asked


# ------------------------------------------------------------------------------ from Python

OWN = """
from pathlib import Path
from torch import nn
Path("CANARY").touch()
class Net(nn.Module):
    def __init__(self, *args, **kwargs):
        super().__init__()
"""


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("own_net.Net", {"class_path": "own_net.Net", "init_args": {}}),
        ("own_net.Net", "own_net.Net"),
        ("os.system", {"class_path": "os.system", "init_args": {"command": "touch CANARY"}}),
        (
            "own_net.Net",
            {
                "class_path": "torchvision.models.resnet18",
                "init_args": {"norm_layer": "own_net.Net"},
            },
        ),
        ("zoo.cli.verbs.run", {"class_path": "zoo.cli.verbs.run", "init_args": {"argv": []}}),
    ],
)
def test_a_checkpoint_runs_nothing_in_python_either(
    name: str,
    spec: Any,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jsonargparse import _common

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    Path("own_net.py").write_text(OWN)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["net"] = spec
    torch.save(content, "mine.ckpt")
    _common.parsing_settings["import_path_verdicts"] = {"*": True}  # a program that asks nobody
    before = dict(_common.parsing_settings)
    with pytest.raises(UserError, match=re.escape(f"checkpoint 'mine.ckpt' names {name!r}, ")):
        ImageClassifier.load_from_checkpoint("mine.ckpt")
    assert not Path("CANARY").exists()
    assert _common.parsing_settings == before


def test_a_trusted_package_is_built_in_python(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    Path("own_net.py").write_text(OWN)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["net"] = {"class_path": "own_net.Net", "init_args": {}}
    content["state_dict"] = {}
    torch.save(content, "mine.ckpt")
    task = ImageClassifier.load_from_checkpoint("mine.ckpt", trust=["own_net"])
    assert type(task.net).__module__ == "own_net"
    assert why_refused("own_net.Net") is not None  # from here on as before
