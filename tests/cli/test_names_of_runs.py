"""What a run is called, and which run is meant by ``last`` and ``best``."""

from pathlib import Path

import pytest

from datamodules.core.files import nearby
from zoo.cli.config import expand_flags, read_layer
from zoo.cli.request import DEFAULTS, find_checkpoint, find_recipe, take_apart
from zoo.cli.run_name import varied
from zoo.errors import UserError
from zoo.model.find import find_weights
from zoo.run.folder import RunFolder, new_run
from zoo.run.runs import newest_checkpoint, runs_of

RESNET = "resnet"


def name_of(line: str) -> str:
    request = take_apart(["fit", *line.split()])
    layers = [read_layer(path) for path in (DEFAULTS, *request.recipes)]
    return varied(request.recipes, layers, expand_flags(request.flags))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("resnet", ""),
        ("resnet --model.net.norm group", "norm=group"),
        ("resnet --model.net.norm=batch", ""),  # the default
        ("resnet --model.lr 1e-2 --model.optimizer sgd", "lr=1e-2,optimizer=sgd"),
        ("resnet --seed_everything 3 --wandb off --trainer.devices 2", "seed=3"),
        ("resnet --seed_everything 0", "seed=0"),
        ("resnet --config smoke --config trainer/cpu", "smoke"),
        ("inception --model.net ResNet --model.net.depth 20", "net=ResNet"),  # 20 is the default
        ("inception --model.net torchvision.models.resnet18", "net=resnet18"),
        ("inception --data CIFAR100 --data.root data", "data=CIFAR100"),
        ("inception --data ImageFolder --data.root my/cats and", "data=ImageFolder,root=cats"),
        ("resnet --model.class_weights [1,2.5]", "class_weights=1_2.5"),
        ("resnet --data.seed 1 --seed_everything 2", "data.seed=1,seed=2"),
        ("unet --model.loss dice --data.count 7", "loss=dice,count=7"),
        ("gru --data TextClassification --data.path a.csv", "data=TextClassification,path=a.csv"),
        ("gpt --data.path my/texts.txt", "path=texts.txt"),
        ("gpt --data.path 훈련😀.txt", "path=훈련_.txt"),
        ("gpt --data.path \u1112\u116e\u11ab.txt", "path=훈.txt"),  # as macOS writes it
        ("resnet --trainer.limit_train_batches 2 --model.lr 1", "lr=1,limit_train_batches=2"),
        ("resnet --trainer.max_epochs 1 --trainer.gradient_clip_val 1", "gradient_clip_val=1"),
    ],
)
def test_name_says_what_differs_from_the_recipe(line: str, name: str) -> None:
    assert name_of(line.removesuffix(" and")) == name


def test_long_names_are_cut_between_options() -> None:
    name = name_of(
        "resnet --model.net.norm group --model.net.activation leaky_relu --model.momentum 0.8 "
        "--model.warmup_steps 100 --model.label_smoothing 0.2 --data.batch_size 7"
    )
    assert name == "norm=group,activation=leaky_relu,momentum=0.8,warmup_steps=100,+2"
    assert (
        name_of(f"gpt --data.path {'훈' * 24} --data.encoding {'련' * 24}")
        == f"path={'훈' * 24},+1"
    )


def test_folder_has_the_name_and_loggers_the_id(tmp_path: Path) -> None:
    run = new_run(tmp_path, RESNET, "norm=group")
    assert run.path.parent == tmp_path / RESNET
    assert run.path.name == f"norm=group-{run.id}"
    assert len(run.id) == len("20261126-101500-0a1b2c")
    assert new_run(tmp_path, RESNET).path.name[:2] == "20"
    assert RunFolder(tmp_path / "of another origin").id == "of another origin"


def make_run(root: Path, name: str, *files: str) -> Path:
    (root / name / "checkpoints").mkdir(parents=True)
    (root / name / "recipe.yaml").touch()
    for file in files:
        (root / name / "checkpoints" / f"{file}.ckpt").touch()
    return root / name


def test_newest_run_is_that_of_the_latest_time(tmp_path: Path) -> None:
    old = make_run(tmp_path, "resnet/norm=group-20261125-101500-0a1b2c", "last", "best")
    new = make_run(tmp_path, "resnet/20261126-101500-0a1b2c", "last", "best")
    other = make_run(tmp_path, "mlp/lr=1-20261127-101500-0a1b2c", "last")
    make_run(tmp_path, "test/20261128-101500-0a1b2c")
    make_run(tmp_path, "a_search/test-20261129-101500-0a1b2c")  # of its winner
    assert runs_of(tmp_path, "resnet", "last") == [new, old]
    assert runs_of(tmp_path, None, "last") == [other, new, old]
    assert newest_checkpoint("best", tmp_path, "resnet") == new / "checkpoints" / "best.ckpt"
    assert newest_checkpoint("last", tmp_path, None) == other / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"lr=1-20261127-101500-0a1b2c', has no best\.ckpt"):
        newest_checkpoint("best", tmp_path, None)
    with pytest.raises(UserError, match=r"there is no run in '.*'; `zoo fit` makes one"):
        newest_checkpoint("best", tmp_path / "elsewhere", None)


@pytest.mark.parametrize("which", ["last", "@last", "best", "@best"])
@pytest.mark.parametrize(("recipe", "of"), [("", "mlp"), ("resnet ", "resnet")])
def test_verbs_take_the_newest_run(
    which: str, recipe: str, of: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "resnet/20261126-101500-0a1b2c", "last", "best")
    make_run(tmp_path, "mlp/20261127-101500-0a1b2c", "last", "best")
    request = take_apart(["predict", *f"{recipe}--ckpt_path {which}".split()])
    request.flags += ["--trainer.default_root_dir", str(tmp_path)]
    find_checkpoint(request, [read_layer(DEFAULTS)])
    assert request.ckpt_path is not None
    path = Path(request.ckpt_path)
    assert (path.parts[-4], path.stem) == (of, which.lstrip("@"))
    assert capsys.readouterr().err == f"checkpoint {nearby(path)}\n"


@pytest.mark.parametrize("option", ["--ckpt_path", "--weights"])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("last", "mlp/20261127-101500-0a1b2c/checkpoints/last.ckpt"),
        ("resnet:best", "resnet/20261126-101500-0a1b2c/checkpoints/best.ckpt"),
        ("recipes/resnet.yaml:last", "resnet/20261126-101500-0a1b2c/checkpoints/last.ckpt"),
        (
            "{root}/resnet/20261126-101500-0a1b2c",
            "resnet/20261126-101500-0a1b2c/checkpoints/best.ckpt",
        ),
        ("{root}/a.ckpt", "a.ckpt"),
    ],
)
def test_one_rule_says_which_weights_a_name_means(
    option: str, name: str, file: str, tmp_path: Path
) -> None:
    """Of either option, of `zoo.load` and wherever runs are kept."""
    make_run(tmp_path, "resnet/20261126-101500-0a1b2c", "last", "best")
    make_run(tmp_path, "mlp/20261127-101500-0a1b2c", "last", "best")
    (tmp_path / "a.ckpt").touch()
    name = name.format(root=tmp_path)
    request = take_apart(["test", option, name])
    request.flags += ["--trainer.default_root_dir", str(tmp_path)]
    find_checkpoint(request, [read_layer(DEFAULTS)])
    assert request.ckpt_path == str(tmp_path / file)
    assert find_weights(name, tmp_path) == tmp_path / file


def test_a_recipe_is_found_without_its_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").touch()
    Path("best.ckpt").touch()
    assert find_recipe("mine") == Path("mine.yaml")
    assert find_recipe("inception").name == "inception.yaml"
    Path("inception.yaml").touch()
    assert find_recipe("inception") == Path("inception.yaml")  # one's own comes first
    assert take_apart(["fit", "mine", "smoke", "--model.lr", "1"]).recipes[0] == Path("mine.yaml")
    assert take_apart(["fit", "mine", "smoke"]).recipes[1].name == "smoke.yaml"
    with pytest.raises(UserError, match=r"'best.ckpt'; it is a checkpoint: give it as --ckpt_path"):
        find_recipe("best.ckpt")
    with pytest.raises(UserError, match=r"did you mean 'mine'\?"):
        find_recipe("minne")
    with pytest.raises(UserError, match=r"'last'; it stands for a checkpoint: give it as --ckpt_p"):
        find_recipe("last")
    with pytest.raises(UserError, match=r"it is a class: give it as --model\.net GoogLeNet$"):
        find_recipe("GoogLeNet")
    with pytest.raises(UserError, match=r"'medmnist'; give a recipe in it: medmnist/resnet18"):
        find_recipe("medmnist")
    with pytest.raises(UserError, match=r"'llm/'; give a recipe in it: llm/dpo, "):
        find_recipe("llm/")
