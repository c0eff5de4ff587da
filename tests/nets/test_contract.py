"""What every net of the zoo promises.

A net that ``zoo.nets`` exports is found, and its case is made from its signature. CASES has more of
some nets: other options, other shapes, and how many parameters there have to be.
"""

import copy
import inspect
import itertools
import json
from typing import Any, NamedTuple, get_args

import pytest
import torch
from torch import Tensor, nn

import zoo.nets
from zoo.nets import (
    GPT,
    MLP,
    BagOfEmbeddings,
    GoogLeNet,
    InceptionV3,
    PretrainedCausalLM,
    PretrainedEncoder,
    ResNet,
    RNNClassifier,
    RNNLanguageModel,
    TransformerClassifier,
    UNet,
)
from zoo.nets.layers.norms import NormName


class Case(NamedTuple):
    net: type[nn.Module]
    kwargs: dict[str, Any]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int | None


CASES = {
    # 260,650: published with the net, in the UvA tutorial.
    "googlenet-cifar": Case(GoogLeNet, {"num_classes": 10}, (2, 3, 32, 32), (2, 10), 260_650),
    # One channel and 8 pixels, as scikit-learn's digits: 2 * 9 * 64 weights fewer in the stem.
    "googlenet-digits": Case(
        GoogLeNet,
        {"in_channels": 1, "num_classes": 10, "image_size": 8},
        (2, 1, 8, 8),
        (2, 10),
        259_498,
    ),
    "googlenet-mnist": Case(
        GoogLeNet,
        {"in_channels": 1, "num_classes": 2, "image_size": 28, "norm": "group"},
        (2, 1, 28, 28),
        (2, 2),
        259_498 - 8 * 129,
    ),
    # 13,004,888: counted in torchvision's own net; 6,624,904 without the auxiliary heads.
    "googlenet-torchvision": Case(
        GoogLeNet,
        {"layout": "torchvision", "stem": "large"},
        (2, 3, 64, 64),
        (2, 1000),
        13_004_888,
    ),
    # 5.491 M: published by huyvnphan/PyTorch_CIFAR10.
    "googlenet-torchvision-small": Case(
        GoogLeNet,
        {"num_classes": 10, "layout": "torchvision", "aux_heads": False},
        (2, 3, 16, 16),
        (2, 10),
        5_490_986,
    ),
    # 6,998,552: the count of Caffe's reference net.
    "googlenet-paper": Case(
        GoogLeNet,
        {"layout": "paper", "stem": "large", "aux_heads": False},
        (2, 3, 64, 64),
        (2, 1000),
        6_998_552,
    ),
    # 27,161,264: published with torchvision's weights.
    "inceptionv3": Case(InceptionV3, {"image_size": 75}, (2, 3, 75, 75), (2, 1000), 27_161_264),
    # 21.64 M: published by huyvnphan/PyTorch_CIFAR10.
    "inceptionv3-small": Case(
        InceptionV3,
        {"num_classes": 10, "aux_heads": False},
        (2, 3, 16, 16),
        (2, 10),
        21_638_954,
    ),
    "unet": Case(
        UNet, {"num_classes": 3, "depth": 2, "width": 8}, (2, 3, 13, 18), (2, 3, 13, 18), 29_643
    ),
    # Two directions of 4 gates, each (7 + 5) weights and 2 biases a unit; 10 features to a class.
    "lstm": Case(
        RNNClassifier,
        {"vocab_size": 40, "num_classes": 3, "embedding_dim": 7, "hidden_size": 5},
        (2, 6),
        (2, 3),
        40 * 7 + 2 * 4 * 5 * (7 + 5 + 2) + 3 * 11,
    ),
    "gru-attention": Case(
        RNNClassifier,
        {
            "vocab_size": 40,
            "num_classes": 3,
            "cell": "gru",
            "embedding_dim": 7,
            "hidden_size": 5,
            "bidirectional": False,
            "pooling": "attention",
        },
        (2, 6),
        (2, 3),
        40 * 7 + 3 * 5 * (7 + 5 + 2) + 5 * 5 + 5 + 3 * 6,
    ),
    "transformer": Case(
        TransformerClassifier,
        {"vocab_size": 40, "num_classes": 3, "embedding_dim": 8, "num_heads": 2, "max_length": 9},
        (2, 6),
        (2, 3),
        (40 + 9) * 8 + 2 * (4 * 8 * 9 + 32 * 9 + 8 * 33 + 2 * 16) + 16 + 3 * 9,
    ),
    "bag": Case(
        BagOfEmbeddings,
        {"vocab_size": 40, "num_classes": 3, "embedding_dim": 8, "buckets": 50},
        (2, 6),
        (2, 3),
        (40 + 51) * 8 + 3 * 9,
    ),
    "mlp-images": Case(
        MLP,
        {"in_channels": 2, "image_size": 5, "widths": [9, 7], "norm": "batch", "dropout": 0.1},
        (2, 2, 5, 5),
        (2, 10),
        50 * 9 + 9 + 2 * 9 + 9 * 7 + 7 + 2 * 7 + 7 * 10 + 10,
    ),
    "mlp-table": Case(
        MLP,
        {"in_channels": 11, "num_classes": 1},
        (3, 11),
        (3, 1),
        11 * 256 + 256 + 256 * 256 + 256 + 256 + 1,
    ),
    # 269,722: 0.27 M in the paper's table 6.
    "resnet20": Case(ResNet, {}, (2, 3, 32, 32), (2, 10), 269_722),
    # One channel: 2 * 9 * 16 weights fewer in the stem. Pre-activation has the same count: 16 norm
    # channels fewer in the stem, 16 + 32 at the start of stages 2 and 3, and 64 more at the end.
    "resnet20-pre-activation": Case(
        ResNet,
        {"in_channels": 1, "image_size": 8, "norm": "group", "pre_activation": True, "conv": "ws"},
        (2, 1, 8, 8),
        (2, 10),
        269_722 - 2 * 9 * 16,
    ),
    # 11,689,512: counted in torchvision's own net.
    "resnet18-large": Case(
        ResNet,
        {"num_classes": 1000, "depth": 18, "image_size": 224, "drop_path": 0.1, "dropout": 0.1},
        (2, 3, 64, 64),
        (2, 1000),
        11_689_512,
    ),
}
# What each net of convolutions needs to be small. The last map must be larger than 2x2 pixels: of
# fewer a block's 3x3 pool makes a constant, which instance norm turns into nothing.
SMALLEST: dict[type[nn.Module], tuple[int, dict[str, Any]]] = {
    GoogLeNet: (12, {"image_size": 12}),
    InceptionV3: (15, {"image_size": 15}),
    ResNet: (9, {"image_size": 9}),
    UNet: (12, {"depth": 1, "width": 8}),
}
#: What data may say about itself, as the command line hands it to a net.
FACTS = {
    "in_channels": 3,
    "num_classes": 5,
    "image_size": 32,
    "vocab_size": 40,
    "pad_id": 0,
    "max_length": 9,
}


def case_of(net: type[nn.Module]) -> Case:
    """The case that a net's signature makes; how many parameters it has is for its own test."""
    kwargs = {name: FACTS[name] for name in inspect.signature(net).parameters if name in FACTS}
    shape = (2, 6) if "vocab_size" in kwargs else (2, 3, 32, 32)
    with torch.device("meta"):
        x = torch.zeros(shape, dtype=torch.int64 if "vocab_size" in kwargs else torch.float32)
        logits = net(**kwargs).eval()(x)
    per_pixel = shape[2:] if logits.dim() == 4 else ()
    return Case(net, kwargs, shape, (2, FACTS["num_classes"], *per_pixel), None)


EXPORTED = {getattr(zoo.nets, name) for name in zoo.nets.__all__}
# An encoder of somebody else's is what its file says; pretrained/test_encoder.py has it.
# Nets that predict the next token have a contract of their own, in test_language_nets.py.
ELSEWHERE = {PretrainedCausalLM, PretrainedEncoder, GPT, RNNLanguageModel}
FOUND = EXPORTED - ELSEWHERE - {case.net for case in CASES.values()}
# Named by file and class, so that ``-k`` finds a net by either.
CASES |= {
    f"{net.__module__.rpartition('.')[2]}-{net.__name__.lower()}": case_of(net)
    for net in sorted(FOUND, key=lambda net: net.__name__)
}
each_net = pytest.mark.parametrize("case", [pytest.param(CASES[k], id=k) for k in CASES])


def build(case: Case) -> nn.Module:
    torch.manual_seed(0)
    return case.net(**case.kwargs)


def draw_input(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if "vocab_size" in case.kwargs:
        return torch.randint(1, case.kwargs["vocab_size"], case.input_shape, generator=generator)
    return torch.randn(case.input_shape, generator=generator)


def all_logits(output: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """The logits of the main head, then those of auxiliary heads, if any."""
    return [output] if isinstance(output, Tensor) else list(output)


def test_a_case_is_made_from_a_signature():
    for net, shapes in (
        (ResNet, ((2, 3, 32, 32), (2, 5))),
        (UNet, ((2, 3, 32, 32), (2, 5, 32, 32))),
        (RNNClassifier, ((2, 6), (2, 5))),
    ):
        case = case_of(net)
        assert (case.input_shape, case.output_shape) == shapes
        assert case.kwargs["num_classes"] == 5


@each_net
def test_forward_returns_logits(case):
    net, x = build(case), draw_input(case)
    for logits in all_logits(net(x)):
        assert logits.shape == case.output_shape
    logits = net.eval()(x)
    assert isinstance(logits, Tensor)
    assert logits.shape == case.output_shape
    assert logits.isfinite().all()


@each_net
def test_every_parameter_gets_a_gradient(case):
    net = build(case).train()
    sum(logits.square().mean() for logits in all_logits(net(draw_input(case)))).backward()
    without = [
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None
        or not parameter.grad.isfinite().all()
        # A bias just before batch norm has no effect, hence a gradient of rounding errors or zero.
        or (parameter.dim() > 1 and not parameter.grad.any())
    ]
    assert without == []


@pytest.mark.parametrize(
    ("net_class", "norm"), list(itertools.product(SMALLEST, get_args(NormName)))
)
def test_every_parameter_gets_a_gradient_with_every_norm(net_class, norm):
    torch.manual_seed(0)
    side, options = SMALLEST[net_class]
    net = net_class(1, 2, norm=norm, **options).train()
    with torch.no_grad():  # a branch whose gain starts at zero would pass nothing on
        for parameter in net.parameters():
            if not parameter.any():
                parameter.fill_(0.1)
    x = torch.randn(2, 1, side, side)
    sum(logits.square().mean() for logits in all_logits(net(x))).backward()
    # A norm that subtracts the mean takes the effect of a convolution's bias away.
    biases = {f"{name}.bias" for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    without = [
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None
        or not parameter.grad.isfinite().all()
        or not (parameter.grad.any() or name in biases)
    ]
    assert without == []


def test_every_net_of_convolutions_is_tried_with_every_norm():
    assert {net for net in EXPORTED if "conv" in inspect.signature(net).parameters} == set(SMALLEST)


@pytest.mark.parametrize(
    "case", [pytest.param(CASES[k], id=k) for k in CASES if CASES[k].parameters is not None]
)
def test_parameter_count(case):
    with torch.device("meta"):
        net = build(case)
    assert sum(parameter.numel() for parameter in net.parameters()) == case.parameters


@each_net
def test_heads_are_what_depends_on_the_number_of_classes(case):
    with torch.device("meta"):
        one, other = build(case), case.net(**case.kwargs | {"num_classes": 17})
    shapes = {name: parameter.shape for name, parameter in other.named_parameters()}
    for name, parameter in one.named_parameters():
        is_head = name.split(".")[0] in case.net.head_names
        assert is_head or parameter.shape == shapes[name], name
    with_heads = {name for name, _ in one.named_children()} & set(case.net.head_names)
    changed = {name.split(".")[0] for name, p in one.named_parameters() if p.shape != shapes[name]}
    assert changed == with_heads


@each_net
def test_evaluation_is_deterministic_and_per_example(case):
    net, x = build(case).eval(), draw_input(case)
    with torch.no_grad():
        logits = net(x)
        assert torch.equal(net(x), logits)
        assert torch.equal(copy.deepcopy(net)(x), logits)
        atol = 1e-5 * max(1.0, float(logits.abs().max()))
        torch.testing.assert_close(net(x[:1]), logits[:1], rtol=1e-4, atol=atol)


@each_net
def test_recorded_arguments_rebuild_the_net(case, tmp_path):
    net, x = build(case).eval(), draw_input(case)
    recorded = json.loads(json.dumps(net._hub_mixin_config))
    assert case.kwargs.items() <= recorded.items()

    twin = case.net(**recorded).eval()
    twin.load_state_dict(net.state_dict())
    net.save_pretrained(tmp_path)
    loaded = case.net.from_pretrained(tmp_path)
    assert loaded._hub_mixin_config == net._hub_mixin_config
    with torch.no_grad():
        assert torch.equal(twin(x), net(x))
        assert torch.equal(loaded(x), net(x))
