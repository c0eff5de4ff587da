"""What is used of other libraries beyond what they promise: all of it is named here, and is there.

A new release that takes one away fails the second test, which says where it is used.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: By file: the name, and the module whose source has it.
USES = {
    "datamodules/core/private.py": {
        "_common": "jsonargparse",
        "_given_hyperparameters": "lightning.pytorch.core.mixins.hparams_mixin",
        "_fingerprint": "datasets.arrow_dataset",
        "_attn_implementation": "transformers.configuration_utils",
        "_last_lr": "torch.optim.lr_scheduler",
    },
    "datamodules/text/token_store.py": {"_mmap": "numpy._core.memmap"},
    # Subclasses, and what only they can reach.
    "zoo/cli/parser.py": {
        "_actions": "argparse",
        "_typehint": "jsonargparse._actions",
        "_check_value_key": "jsonargparse._core",
    },
    "zoo/nets/layers/conv.py": {"_conv_forward": "torch.nn.modules.conv"},
    "zoo/nets/cost.py": {
        "_cudnn_rnn": "torch._meta_registrations",
        "_cudnn_rnn_backward": "torch._inductor.lowering",
    },
    # Which saved view is written anew: the library finds one by its address alone.
    "zoo/dashboards/server.py": {
        "_graphql": "wandb_workspaces.workspaces.internal",
        "_internal_id": "wandb_workspaces.workspaces.interface",
        "_internal_name": "wandb_workspaces.workspaces.interface",
        "_to_model": "wandb_workspaces.workspaces.interface",
    },
    "zoo/tasks/base.py": {"_trainer": "lightning.pytorch.core.module"},
    "zoo/run/lone_trainer.py": {"_trainer": "lightning.pytorch.core.module"},
    # What has recurrent layers exported as loops, and forgets shapes of an earlier export.
    "zoo/export/capture.py": {
        "_patches": "torch.export._patches",
        "_subclasses": "torch.export._trace",
    },
    # The arguments that nets record, from which a checkpoint rebuilds them.
    "zoo/nets/protocols.py": {"_hub_mixin_config": "huggingface_hub.hub_mixin"},
    "zoo/nets/pretrained/causal_lm.py": {"_hub_mixin_config": "huggingface_hub.hub_mixin"},
    "zoo/nets/pretrained/torchvision_weights.py": {
        "_hub_mixin_config": "huggingface_hub.hub_mixin"
    },
    "zoo/tasks/net_spec.py": {"_hub_mixin_config": "huggingface_hub.hub_mixin"},
}
#: What the search cannot tell from our own names.
OVERRIDDEN = {
    "_dump_config": "lightning.pytorch.cli",  # zoo/cli/cli.py
    "_class_path": "lightning.pytorch.cli",  # zoo/tasks/base.py, as keys of a checkpoint
    "_instantiator": "lightning.pytorch.core.mixins.hparams_mixin",
    "singleton": "wandb.sdk.wandb_setup",  # zoo/run/wandb_login.py
}
#: Of named tuples, os and sys.
DOCUMENTED = {"_make", "_replace", "_asdict", "_fields", "_exit", "_current_frames"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED | {"_"}


def sources() -> dict[str, ast.Module]:
    paths = [path for package in ("zoo", "datamodules") for path in (ROOT / package).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}


def defined(tree: ast.Module) -> Iterator[str]:
    """Names that a file gives to something of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield from [node.attr] if ast.unparse(node.value) == "self" else []


def used(tree: ast.Module) -> Iterator[str]:
    """Private names that a file imports of another library, or reaches by an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] not in ("zoo", "datamodules"):
                parts = [*node.module.split("."), *(alias.name for alias in node.names)]
                yield from filter(is_private, parts)
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield str(name.value)


def test_all_uses_are_named() -> None:
    trees = sources()
    own = {name for tree in trees.values() for name in defined(tree)}
    own -= {name for names in USES.values() for name in names}
    found = {file: {*used(tree)} - own for file, tree in trees.items()}
    declared = {
        file: {each.target.id for each in ast.walk(tree) if isinstance(each, ast.AnnAssign)
               and isinstance(each.target, ast.Name) and is_private(each.target.id)} - own
        for file, tree in trees.items()
    }  # fmt: skip
    foreign = {file: found[file] | declared[file] for file in trees}
    assert {file: names for file, names in foreign.items() if names} == {
        file: set(names) for file, names in USES.items()
    }


@pytest.mark.parametrize(
    ("name", "module"),
    [
        # in one order in all processes that share the tests
        *sorted({(name, module) for names in USES.values() for name, module in names.items()}),
        *OVERRIDDEN.items(),
    ],
)
def test_the_library_still_has_it(name: str, module: str) -> None:
    pytest.importorskip(module.split(".")[0])
    assert name in inspect.getsource(importlib.import_module(module))
