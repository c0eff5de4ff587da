"""``zoo export --to onnx`` and ``--to torch``: what is written runs alone and gives the same."""

import contextlib
import functools
import importlib.util
import io
import json
import re
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import datamodules
from datamodules.core.module import ArrayDataModule
from datamodules.images.decode import read_image
from datamodules.text.tokenizer import Vocabulary, train
from zoo import nets
from zoo.cli.export import load_inputs, load_source
from zoo.errors import UserError
from zoo.export import check
from zoo.export.usage import usage
from zoo.inference.generation import generate
from zoo.model.loading import load
from zoo.run.checkpoint import LAYOUT, read_checkpoint
from zoo.run.weights_file import write_weights
from zoo.tasks import ImageClassifier, ImageSegmenter, LanguageModel, Regressor, TextClassifier
from zoo.tasks.base import Task
from zoo.version import __version__

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def save(path: Path, task: Task, data: ArrayDataModule, options: dict[str, Any]) -> Path:
    """Write what `fit` would, of a net with random weights."""
    zoo = {"version": __version__, "layout": LAYOUT, "temperature": 1.7}
    zoo |= {"data": data.resolved(), "inputs": data.inputs_spec()}
    hparams = {"_class_path": f"zoo.{type(task).__name__}", "net": task.net_spec(), **options}
    state = task.state_dict()
    torch.save({"state_dict": state, "hyper_parameters": hparams, "zoo": zoo}, path)
    return path


def reviews(path: Path) -> str:
    """A csv file of texts of many lengths, with labels."""
    words = [*"abcdefghijklmnopqrst"]
    rows = [
        f"{' '.join(words[i % 7 : i % 7 + 1 + i % 11])},{'pos' if i % 2 else 'neg'}"
        for i in range(120)
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(path)


def people(path: Path) -> str:
    """A csv file of numbers and categories."""
    rows = [f"{20 + i % 50},{1000 * (i % 9)},{'ABC'[i % 3]},{i * 1.5 + 1e6}" for i in range(90)]
    path.write_text("age,income,city,price\n" + "\n".join(rows) + "\n")
    return str(path)


def corpus(path: Path) -> str:
    """A file of text."""
    path.write_text("the name of this is the capital of the assistant. " * 80)
    return str(path)


Made = tuple[Task, ArrayDataModule, dict[str, Any]]


def text(net: type[nn.Module], folder: Path, **options: Any) -> Made:
    data = datamodules.TextClassification(path=reviews(folder / "r.csv"), vocab_size=300)
    facts = {"vocab_size": data.vocab_size, "num_classes": 2, "pad_id": data.pad_id}
    return TextClassifier(net(**facts, **options)), data, {"num_classes": 2}


def images(folder: Path, **options: Any) -> Made:
    data = datamodules.Digits()
    data.setup()
    net: nn.Module = nets.GoogLeNet(1, 10, image_size=8)
    if options:
        net = nets.MLP(1, 10, image_size=8, widths=[64])
    return ImageClassifier(net, **options), data, options


def labels(folder: Path) -> Made:
    """Several labels an image."""
    task, data, _ = images(folder, num_classes=10, label_kind="multilabel", tta="flip")
    data.label_kind = "multilabel"
    return task, data, {"label_kind": "multilabel", "tta": "flip"}


def masks(folder: Path) -> Made:
    data = datamodules.SyntheticCells(count=40, image_size=30)
    data.setup()
    return ImageSegmenter(nets.UNet(3, 2, depth=2, width=4)), data, {}


def table(folder: Path) -> Made:
    data = datamodules.CSVTable(people(folder / "p.csv"), target="price")
    options = {"target_mean": data.target_mean, "target_std": data.target_std}
    task = Regressor(nets.MLP(data.in_channels, 1, widths=[8], image_size=None), **options)
    return task, data, options


def language(net: type[nn.Module], folder: Path, **options: Any) -> Made:
    data = datamodules.TextCorpus(
        path=corpus(folder / "c.txt"),
        vocab_size=280,
        max_length=16,
        val_fraction=0.2,
        test_fraction=0.2,
    )
    length = {"max_length": 64} if net is nets.GPT else {}
    made = net(data.vocab_size, **length, embedding_dim=16, num_layers=2, **options)
    return LanguageModel(made), data, {}


MAKERS: dict[str, Callable[[Path], Made]] = {
    "images": images,
    "labels": labels,
    "masks": masks,
    "table": table,
    "lstm": lambda folder: text(nets.RNNClassifier, folder, hidden_size=8, embedding_dim=8),
    "gru": lambda folder: text(
        nets.RNNClassifier, folder, cell="gru", hidden_size=8, embedding_dim=8, num_layers=2
    ),
    "textcnn": lambda folder: text(nets.TextCNN, folder, embedding_dim=8, num_filters=4),
    "bag": lambda folder: text(nets.BagOfEmbeddings, folder, embedding_dim=8, buckets=50),
    "transformer": lambda folder: text(
        nets.TransformerClassifier, folder, embedding_dim=8, num_heads=2
    ),
    "gpt": lambda folder: language(nets.GPT, folder, num_heads=2),
    "gpt2": lambda folder: language(nets.GPT, folder, num_heads=2, layout="gpt2"),
    "lstm_lm": lambda folder: language(nets.RNNLanguageModel, folder, hidden_size=12),
}


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a checkpoint of a kind; all weights are random, those that start at zero, too."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))

    def make(kind: str, change: Callable[[Task], None] | None = None) -> Path:
        torch.manual_seed(0)
        task, data, options = MAKERS[kind](tmp_path)
        with torch.no_grad():
            for parameter in task.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
        if change is not None:
            change(task)
        return save(tmp_path / f"{kind}.ckpt", task, data, options)

    return make


@pytest.fixture
def refuse(zoo: Callable[..., Any]) -> Callable[..., str]:
    """Runs an export that has to be refused, and leaves nothing; gives the sentence."""

    def run(command: str, *words: str) -> str:
        ended = zoo(command)
        assert (ended.code, ended.out) == (2, "")
        assert not Path("out").exists()
        assert ended.err.count("\n") == 1
        for word in words:
            assert word in ended.err
        return str(ended.err)

    return run


def lines_of(folder: Path) -> str:
    """The Python of a folder's README."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    return code


def run_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict]:
    """Run them in the folder; give what they print and the names they leave."""
    names: dict = {}
    code = lines_of(folder)
    with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        exec(code, names)
    return out.getvalue(), names


def as_predicted(path: Path, inputs: list[str]) -> Any:
    """What the task itself gives for a user's inputs, read as `predict` reads them."""
    source = load_source(str(path), [], [])
    data = load_inputs(source, inputs)
    if isinstance(source.task, LanguageModel):
        (prompt,) = data.predict_dataloader().dataset
        longest = min(40, (source.task.net.max_length or 99) - len(prompt))
        net = source.task.net.eval()
        written = generate(net, prompt, max_new_tokens=longest, temperature=0.0)
        tokens = [*takewhile(lambda token: token not in data.stop_ids, written)]
        assert len(tokens) > 3
        return data.decode([*prompt, *tokens])
    return load(path)(inputs[0])


#: All others take 5 to 30 seconds, most of it torch's own.
QUICK = {("labels", "onnx"), ("labels", "torch"), ("table", "onnx"), ("table", "torch")}
QUICK |= {("textcnn", "onnx"), ("lstm", "torch")}
#: How many test samples there are, or are taken: whole batches of 32, 100 samples at least.
COMPARED = dict.fromkeys(MAKERS, 8) | {"images": 128, "labels": 128, "table": 18, "masks": 6}
COMPARED |= dict.fromkeys(("gpt", "gpt2", "lstm_lm"), 15)
CASES = [(kind, to) for kind in MAKERS for to in ("onnx", "torch")]


@pytest.mark.parametrize(
    ("kind", "to"),
    [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_it_gives_what_the_net_gives_and_its_readme_runs(kind, to, untrained, zoo, monkeypatch):
    path = untrained(kind)
    ended = zoo(f"export --ckpt_path {path} --to {to} out")
    assert ended.code == 0, ended.err
    told = re.search(r"largest difference from the net (\S+) on (\d+) test samples", ended.out)
    assert told is not None
    assert float(told[1]) < 1e-4
    assert int(told[2]) == COMPARED[kind]
    picture = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save("out/image.png")
    printed, names = run_lines(Path("out"), monkeypatch)
    assert len(lines_of(Path("out")).strip().splitlines()) <= 20
    if kind in ("gpt", "gpt2", "lstm_lm"):
        assert printed.strip() == as_predicted(path, ["Once upon a time"]).strip()
    elif kind == "table":
        row = {"age": 37.0, "income": 4000.0, "city": "C"}
        assert names["row"].keys() == row.keys()
        readme = Path("out/README.md")
        code = readme.read_text().replace(f"row = {names['row']!r}", f"row = {row!r}")
        readme.write_text(code)
        _, others = run_lines(Path("out"), monkeypatch)
        assert others["value"] != names["value"]
        assert others["value"] == pytest.approx(load(path)(row).value, rel=1e-6)
    elif kind == "masks":
        expected = as_predicted(path, ["out/image.png"]).mask
        assert 0 < expected.mean() < 1
        assert np.array_equal(np.array(Image.open("out/mask.png")), expected)
    else:
        given = "out/image.png" if kind in ("images", "labels") else "a text of your own"
        expected = [*as_predicted(path, [given]).probabilities.values()]
        np.testing.assert_allclose(names["probabilities"], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_a_pretrained_language_model(lora, tiny_llama, tmp_path, zoo, monkeypatch):
    data = datamodules.TextCorpus(
        path=corpus(tmp_path / "c.txt"),
        tokenizer=str(tiny_llama),
        max_length=16,
        val_fraction=0.2,
        test_fraction=0.2,
    )
    task = LanguageModel(nets.PretrainedCausalLM(str(tiny_llama), lora=lora))
    path = save(tmp_path / "llama.ckpt", task, data, {})
    ended = zoo(f"export --ckpt_path {path} --to onnx out")
    assert ended.code == 0, ended.err
    printed, _ = run_lines(Path("out"), monkeypatch)
    assert len(printed.strip()) > len("Once upon a time")
    assert printed.strip() == as_predicted(path, ["Once upon a time"]).strip()


@pytest.mark.slow
def test_a_pretrained_encoder(tmp_path, zoo, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    data = datamodules.TextClassification(path=reviews(tmp_path / "r.csv"), vocab_size=300)
    config = transformers.BertConfig(
        vocab_size=data.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    data.max_length = 64
    net = nets.PretrainedEncoder(str(tmp_path / "bert"), 2, pad_id=data.pad_id)
    path = save(tmp_path / "e.ckpt", TextClassifier(net), data, {"num_classes": 2})
    ended = zoo(f"export --ckpt_path {path} --to onnx out")
    assert ended.code == 0, ended.err
    _, names = run_lines(Path("out"), monkeypatch)
    expected = [*as_predicted(path, ["a text of your own"]).probabilities.values()]
    np.testing.assert_allclose(names["probabilities"], expected, rtol=0, atol=1e-5)


def test_what_a_user_has_to_know_is_in_the_file(untrained, zoo):
    ended = zoo(f"export --ckpt_path {untrained('labels')} --to onnx out")
    assert ended.code == 0, ended.err
    session = onnxruntime.InferenceSession("out/model.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["zoo"])
    assert facts["class_names"] == [str(n) for n in range(10)]
    assert (facts["temperature"], facts["threshold"]) == (1.7, 0.5)
    assert (facts["image_size"], facts["channels"], facts["resize"]) == ([8, 8], 1, "crop")
    (given,) = session.get_inputs()
    assert (given.name, given.shape, given.type) == (
        "images",
        ["batch", 1, 8, 8],
        "tensor(uint8)",
    )
    card = Path("out/README.md").read_text()
    assert "pipeline_tag: image-classification" in card
    assert "A MLP of" in card
    assert "class_path: zoo.MLP" in card


def test_weights_alone_are_loaded_by_the_zoo(untrained, zoo, monkeypatch):
    path = untrained("table")
    ended = zoo(f"export --ckpt_path {path} --to safetensors out")
    assert (ended.code, ended.out) == (0, "written to out\n")
    _, names = run_lines(Path("out"), monkeypatch)
    row = {"age": 30, "income": 2000, "city": "B"}
    assert names["model"](row).value == load(path)(row).value


def test_data_that_lie_elsewhere_now_are_named(untrained, zoo):
    path = untrained("table")
    Path("p.csv").rename("moved.csv")
    ended = zoo(f"export --ckpt_path {path} --to torch out --data.path moved.csv")
    assert ended.code == 0, ended.err
    assert "test samples" in ended.out


def test_inputs_of_ones_own_take_the_place_of_data_that_are_gone(untrained, zoo, refuse):
    path = untrained("textcnn")
    Path("r.csv").unlink()
    said = refuse(f"export --ckpt_path {path} --to torch out", "r.csv", "by --inputs")
    assert "the run's data cannot be read" in said
    ended = zoo(["export", f"--ckpt_path={path}", "--to", "torch", "out", "--inputs", "a b", "c"])
    assert ended.code == 0, ended.err
    assert "on 2 inputs" in ended.out


class Branch(nn.Module):
    """Does one thing or another by the values of a batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Bessel(nn.Module):
    """An operator that ONNX lacks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_what_cannot_be_exported_is_named_with_its_layer(untrained, refuse, monkeypatch):
    path = untrained("labels")
    build = nets.MLP.__init__

    def with_layer(kind: type[nn.Module]) -> None:
        @functools.wraps(build)
        def init(self: nn.Module, *args: Any, **options: Any) -> None:
            build(self, *args, **options)
            self.layers.append(kind())

        monkeypatch.setattr(nets.MLP, "__init__", init)

    with_layer(Branch)
    said = refuse(f"export --ckpt_path {path} --to torch out", "(Branch) cannot be exported")
    assert "layer layers." in said
    with_layer(Bessel)
    refuse(
        f"export --ckpt_path {path} --to onnx out",
        "(Bessel) cannot be exported: ONNX has no operator for",
        "bessel_j0",
        "--to torch",
    )


def test_a_recurrent_layer_of_tanh_is_named(untrained, refuse, monkeypatch):
    monkeypatch.setitem(
        MAKERS, "rnn", lambda folder: text(nets.RNNClassifier, folder, cell="rnn", hidden_size=8)
    )
    said = refuse(f"export --ckpt_path {untrained('rnn')} --to torch out", "cannot be exported")
    assert "layer forward_layers.0 (RNN)" in said
    assert "choose cell lstm or gru" in said


def test_refusals(untrained, refuse, monkeypatch):
    path = untrained("table")
    Path("full").mkdir()
    Path("full/file").touch()
    for rest, said in (
        ("--to onnx full", "option to is 'full'; it is there and not empty"),
        ("--to onnnx out", "option to is 'onnnx'; give one of onnx, torch, safetensors, hf"),
        ("--to onnx out --quantize int4", "option quantize is 'int4'; give int8"),
        ("--to torch out --quantize int8", "give it with --to onnx"),
        ("--to onnx full/file/out", "it cannot be written"),
    ):
        refuse(f"export --ckpt_path {path} {rest}", said)
    checkpoint = torch.load(path)
    del checkpoint["zoo"]["inputs"]
    torch.save(checkpoint, "old.ckpt")
    refuse("export --ckpt_path old.ckpt --to onnx out", "does not say how inputs are prepared")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    refuse(f"export --ckpt_path {path} --to onnx out", "pip install 'lightning-zoo[export]'")


def test_a_file_that_differs_from_the_net_is_not_left(untrained, refuse, monkeypatch):
    path = untrained("table")
    opened = check.OPENERS["torch"]

    def off_by_a_little(path: Path) -> check.Runner:
        run = opened(path)
        return lambda feed: [each + 1e-2 for each in run(feed)]

    monkeypatch.setitem(check.OPENERS, "torch", off_by_a_little)
    refuse(f"export --ckpt_path {path} --to torch out", "differs from the net by", "0.0001")


@pytest.mark.parametrize("kind", ["labels", pytest.param("images", marks=pytest.mark.slow)])
def test_eight_bits_tell_their_size_speed_and_price(kind, untrained, zoo):
    ended = zoo(f"export --ckpt_path {untrained(kind)} --to onnx out --quantize int8")
    assert ended.code == 0, ended.err
    assert re.search(r"model_int8.onnx: \S+ MB \((static|dynamic)\); 32 inputs take", ended.out)
    assert re.search(r"test acc \S+ in 8 bits and \S+ in float32, of (\d+) test samples", ended.out)
    sizes = [Path(f"out/{name}.onnx").stat().st_size for name in ("model", "model_int8")]
    assert sizes[1] < 0.6 * sizes[0]
    assert "model_int8.onnx" in lines_of(Path("out"))


# ---------------------------------------------------------------- what comes before the net


def made_by(lines: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> dict:
    """Run the lines of a README from the file's opening to what is asked, without the file."""
    start = "import json\nimport numpy as np\n"
    imports = [line for line in lines.splitlines() if re.match("from (PIL|tokenizers)", line)]
    body = lines.partition('custom_metadata_map["zoo"])\n')[2]
    body = re.split(r"\n(?:probabilities|mask) = ", body)[0]
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        exec(start + "\n".join([*imports, body]), names)
    return names


def image_facts(**changed: Any) -> dict[str, Any]:
    facts = {"task": "classification", "inputs": "images", "class_names": ["a", "b"]}
    facts |= {"image_size": [13, 18], "channels": 1, "resize": "crop", "window": None}
    return facts | changed


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("bits", ["8", "16", "16 in a window", "colour"])
def test_an_images_pixels_are_those_of_the_zoo(resize, bits, tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    window = [2.0, 97.0] if "window" in bits else None
    channels = 3 if bits == "colour" else 1
    facts = image_facts(resize=resize, window=window, channels=channels)
    code = usage("onnx", "model.onnx", facts)
    for height, width in ((13, 18), (40, 25), (9, 31), (26, 36), (117, 50), (7, 7)):
        shape = (height, width, 3) if channels == 3 else (height, width)
        top, kind = (65536, np.uint16) if "16" in bits else (256, np.uint8)
        Image.fromarray(draw.integers(0, top, shape).astype(kind)).save(tmp_path / "image.png")
        names = made_by(code, tmp_path, monkeypatch, facts=facts)
        expected = read_image(
            tmp_path / "image.png", [13, 18], channels, window=window, resize=resize
        )
        np.testing.assert_array_equal(names["pixels"], expected)


def test_of_a_net_that_keeps_one_size_the_corner_is_taken_and_said(tmp_path, monkeypatch):
    facts = image_facts(task="segmentation")
    code = usage("onnx", "model.onnx", facts)
    assert "They have 13 x 18 pixels" in code
    picture = np.random.default_rng(0).integers(0, 256, (40, 25), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "image.png")
    names = made_by(code, tmp_path, monkeypatch, facts=facts)
    np.testing.assert_array_equal(names["pixels"][..., 0], picture[:13, :18])


@pytest.mark.parametrize("truncate", ["head", "tail", "both"])
@pytest.mark.parametrize("long", [(3, 4), (20, 3), (3, 20), (20, 21)])
def test_a_pair_is_cut_as_the_zoo_cuts_it(truncate, long, tmp_path, monkeypatch):
    words = " ".join("abcdefghijklmnopqrstuvwxyz")
    tokenizer = train([words], Vocabulary("word", 60, 1, lowercase=True, nfc=False))
    pair = [" ".join(words.split()[:count]) for count in long]
    options = {"max_length": 12, "truncate": truncate, "text_column": ["one", "two"]}
    data = datamodules.TextInputs(None, ["a", "b"], tokenizer, **options)
    (batch,) = data.of(tuple(pair))[0].predict_dataloader()
    known = data.text_tokenizer
    (tmp_path / "tokenizer.json").write_text(known.json)
    facts = {"task": "classification", "inputs": "texts", "class_names": ["a", "b"], **options}
    facts |= {"prefix": known.prefix, "suffix": known.suffix, "between": known.between}
    facts |= {"unknown": known.unk_id}
    code = usage("onnx", "model.onnx", facts)
    code = code.replace('["one text", "and another"]', repr(pair))
    names = made_by(code, tmp_path, monkeypatch, facts=facts)
    assert len(known.between) == 1
    np.testing.assert_array_equal(names["tokens"], batch.tokens)
    np.testing.assert_array_equal(names["lengths"], batch.lengths)


# ---------------------------------------------------------------- any batch, any length


@pytest.mark.parametrize(
    "kind",
    ["textcnn", *(pytest.param(each, marks=pytest.mark.slow) for each in ("lstm", "gru"))],
)
def test_padding_batch_and_length_change_nothing(kind, untrained, zoo):
    path = untrained(kind)
    ended = zoo(f"export --ckpt_path {path} --to onnx out")
    assert ended.code == 0, ended.err
    session = onnxruntime.InferenceSession("out/model.onnx")
    model = load(path)
    draw = np.random.default_rng(0)
    lengths = np.array([9, 1, 4, 7, 2, 9])
    tokens = draw.integers(3, model.data.vocab_size, (6, 9))
    tokens[np.arange(9) >= lengths[:, None]] = model.data.pad_id

    def run(tokens: Any, lengths: Any) -> Any:
        return session.run(None, {"tokens": tokens, "lengths": lengths})[0]

    together = run(tokens, lengths)
    with torch.inference_mode():
        logits = model.net(torch.from_numpy(tokens), torch.from_numpy(lengths))
    expected = (logits / 1.7).softmax(1)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3  # the texts are told apart
    padded = np.pad(tokens, ((0, 0), (0, 23)), constant_values=model.data.pad_id)
    np.testing.assert_allclose(run(padded, lengths), together, rtol=0, atol=1e-6)
    if kind != "textcnn":  # whose widest filter asks for more than a token
        for row, length in enumerate(lengths):
            alone = run(tokens[row : row + 1, :length], lengths[row : row + 1])
            np.testing.assert_allclose(alone, together[row : row + 1], rtol=0, atol=1e-6)


# ---------------------------------------------------------------- inputs, figures


@pytest.mark.parametrize("kind", [pytest.param("gpt", marks=pytest.mark.slow), "lstm_lm"])
def test_a_language_model_is_compared_on_prompts(kind, untrained, zoo, refuse):
    path = untrained(kind)
    given = ["export", f"--ckpt_path={path}", "--to", "torch", "out", "--inputs"]
    ended = zoo([*given, "the name", "x" * 90])
    assert ended.code == 0, ended.err
    assert re.search(r"difference from the net \S+ on 2 inputs", ended.out)


def test_inputs_are_counted_by_samples(untrained, zoo):
    path = untrained("table")
    row = "30,2000,B\n"
    Path("many.csv").write_text("age,income,city\n" + row * 900)
    ended = zoo(f"export --ckpt_path {path} --to torch out --inputs many.csv")
    assert ended.code == 0, ended.err
    taken = int(re.search(r"on (\d+) inputs", ended.out)[1])
    assert 100 <= taken < 900


def test_only_the_checkpoint_that_was_tested_has_its_figures(untrained, zoo):
    run = Path("runs/table/one")
    (run / "checkpoints").mkdir(parents=True)
    path = untrained("table")
    for name in ("best", "last"):
        (run / f"checkpoints/{name}.ckpt").write_bytes(path.read_bytes())
    tested = {"checkpoint": "runs/table/one/checkpoints/best.ckpt", "test": {"mae": 1.25}}
    (run / "summary.json").write_text(json.dumps(tested))
    for name, figures in (("best", {"mae": 1.25}), ("last", None)):
        ended = zoo(f"export --ckpt_path {run}/checkpoints/{name}.ckpt --to safetensors {name}")
        assert ended.code == 0, ended.err
        weights = Path(name, "model.safetensors")
        assert read_checkpoint(weights).get("test") == figures
        assert ("| mae | 1.2500 |" in Path(name, "README.md").read_text()) == (figures is not None)
    # what a weights file says of itself goes before the run that it lies in
    (run / "checkpoints/copy.safetensors").write_bytes(Path("best/model.safetensors").read_bytes())
    tested["test"], tested["checkpoint"] = {"mae": 9.0}, "copy.safetensors"
    (run / "summary.json").write_text(json.dumps(tested))
    copy = run / "checkpoints/copy.safetensors"
    assert zoo(f"export --ckpt_path {copy} --to safetensors again").code == 0
    assert read_checkpoint("again/model.safetensors")["test"] == {"mae": 1.25}


def test_weights_that_are_no_tensors_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"hold net\.extra, a dict, and a weights file tensors"):
        write_weights({"state_dict": {"net.extra": {"a": 1}}}, tmp_path / "w.safetensors")
