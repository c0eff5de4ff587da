"""Losses against formulas written out in numpy and scipy, in float64, and against torch's own."""

import math
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import expit, log_expit, log_softmax, softmax
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from zoo import losses
from zoo.losses import (
    ClassificationLoss,
    RegressionLoss,
    SegmentationLoss,
    check_logits,
    classification_loss,
    regression_loss,
    segmentation_loss,
)

SAMPLES, CLASSES = 7, 4
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.5], dtype=torch.float64)
ONE_CLASS = tuple(n for n in get_args(ClassificationLoss) if n != "binary_cross_entropy")


def near(actual: Tensor, expected: object) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-10, atol=1e-12)


def logits(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*(shape or (SAMPLES, CLASSES)), generator=generator).double()


def labels(*shape: int, classes: int = CLASSES, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(classes, shape or (SAMPLES,), generator=generator)


def mixed() -> Tensor:
    """Class probabilities as MixUp makes them: two labels a sample."""
    one, two = F.one_hot(labels(), CLASSES), F.one_hot(labels(seed=2), CLASSES)
    return (0.7 * one + 0.3 * two).double()


# --- one class of several ------------------------------------------------------------------------


def by_formula(
    name: str, z: Tensor, t: Tensor, smoothing: float, weights: Tensor | None, **option: float
) -> np.ndarray:
    """The module's formulas, sample by sample."""
    log_p = log_softmax(z.numpy(), axis=1)
    p = np.exp(log_p)
    w = np.ones(CLASSES) if weights is None else weights.numpy()
    truth = np.eye(CLASSES)[t.numpy()] if t.ndim == 1 else t.numpy()
    total = (w * truth).sum(1, keepdims=True)
    truth = (1 - smoothing) * w * truth + smoothing / CLASSES * total
    each = {
        "cross_entropy": lambda: -log_p,
        "focal": lambda: -((1 - p) ** option["gamma"]) * log_p,
        "generalized_cross_entropy": lambda: (1 - p ** option["q"]) / option["q"],
    }[name]()
    return (truth * each).sum(1)


CASES = [
    ("cross_entropy", {}),
    ("focal", {"gamma": 2.0}),
    ("focal", {"gamma": 0.5}),
    ("generalized_cross_entropy", {"q": 0.7}),
    ("generalized_cross_entropy", {"q": 1.0}),
]


def test_every_loss_of_one_class_stands_beside_its_formula():
    assert {name for name, _ in CASES} == set(ONE_CLASS)


@pytest.mark.parametrize(("name", "option"), CASES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("target", [labels(), mixed()], ids=["index", "mixed"])
def test_one_class_follows_its_formula(name, option, weights, smoothing, target):
    z = logits()
    expected = by_formula(name, z, target, smoothing, weights, **option)
    function = getattr(losses, name)
    options = dict(option, class_weights=weights, label_smoothing=smoothing)
    near(function(z, target, reduction="none", **options), expected)
    # As torch has it: the sum of the labels' weights for class indices, the count otherwise.
    of_labels = weights is not None and target.ndim == 1
    total = WEIGHTS[target].sum().item() if of_labels else SAMPLES
    near(function(z, target, **options), expected.sum() / total)


@pytest.mark.parametrize(("weights", "smoothing"), [(None, 0.0), (None, 0.2), (WEIGHTS, 0.0)])
@pytest.mark.parametrize("target", [labels(), mixed()], ids=["index", "mixed"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cross_entropy_and_its_limits_are_torchs(weights, smoothing, target, reduction):
    z = logits()
    options = {"label_smoothing": smoothing, "reduction": reduction}
    expected = F.cross_entropy(z, target, weight=weights, **options)
    options["class_weights"] = weights
    near(losses.cross_entropy(z, target, **options), expected)
    near(losses.focal(z, target, gamma=0.0, **options), expected)
    limit = losses.generalized_cross_entropy(z, target, q=1e-9, **options)
    torch.testing.assert_close(limit, expected, rtol=1e-6, atol=1e-6)


def least(loss: nn.Module, target: Tensor) -> Tensor:
    """The logits at which the loss of one sample is least."""
    z = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(z, target, "none").sum()
        value.backward()
        return value

    optimizer.step(closure)
    return z.detach()


@pytest.mark.parametrize("name", get_args(ClassificationLoss))
@pytest.mark.parametrize("target", [[1.0, 0.0, 0.0], [0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
def test_weights_of_classes_do_not_act_on_the_smoothing(name, target):
    """A rare class of a large weight is no likelier where the label says another."""
    kind = "multilabel" if name == "binary_cross_entropy" else "multiclass"
    options = {"label_kind": kind, "label_smoothing": 0.1, "gce_q": 0.3, "focal_gamma": 0.5}
    wide = torch.tensor([1.0, 1.0, 50.0], dtype=torch.float64)
    t = torch.tensor([target], dtype=torch.float64)
    weighted = least(classification_loss(name, class_weights=wide, **options), t)
    plain = least(classification_loss(name, **options), t)
    torch.testing.assert_close(weighted, plain, rtol=1e-3, atol=1e-3)
    if name == "cross_entropy":
        smoothed = 0.9 * t + 0.1 / 3
        torch.testing.assert_close(weighted.softmax(1), smoothed, rtol=1e-4, atol=1e-4)
    if target == [0.0, 0.0, 1.0] and kind == "multiclass":  # the sample has its label's weight
        z = logits(1, 3)
        of_label = classification_loss(name, class_weights=wide, **options)(z, t, "none")
        near(of_label, 50 * classification_loss(name, **options)(z, t, "none"))


def test_generalized_cross_entropy_ends_in_the_mean_absolute_error():
    z, t = logits(), labels()
    distance = (z.softmax(1) - F.one_hot(t, CLASSES)).abs().sum(1)
    near(losses.generalized_cross_entropy(z, t, q=1.0, reduction="none"), distance / 2)
    for q in (0.3, 0.7, 1.0):
        worst = losses.generalized_cross_entropy(torch.tensor([[1e4, 0.0]]), torch.tensor([1]), q=q)
        assert worst.item() == pytest.approx(1 / q)


def test_focal_makes_light_of_what_is_right():
    z = torch.tensor([[4.0, 0.0], [-4.0, 0.0]], dtype=torch.float64)
    t = torch.tensor([0, 0])
    ratio = losses.focal(z, t, reduction="none") / losses.cross_entropy(z, t, reduction="none")
    near(ratio, expit([-4.0, 4.0]) ** 2)


# --- any number of several -----------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_multilabel_follows_its_formula(gamma, weights, smoothing):
    z, t = logits(), labels(SAMPLES, CLASSES, classes=2)
    w = 1.0 if weights is None else weights.numpy()
    s, truth = expit(z.numpy()), t.numpy() * (1 - smoothing) + smoothing / 2
    expected = -np.where(t > 0, w, 1.0) * (
        truth * (1 - s) ** gamma * log_expit(z.numpy())
        + (1 - truth) * s**gamma * log_expit(-z.numpy())
    )
    options = {"class_weights": weights, "label_smoothing": smoothing}
    near(losses.sigmoid_focal(z, t, gamma=gamma, **options), expected.mean())
    each = losses.sigmoid_focal(z, t, gamma=gamma, reduction="none", **options)
    near(each, expected.mean(1))
    if gamma == 0:
        near(losses.binary_cross_entropy(z, t, **options), expected.mean())
        near(losses.binary_cross_entropy(z, t, reduction="none", **options), expected.mean(1))


def test_multilabel_is_torchs_and_torchvisions():
    z, t = logits(), labels(SAMPLES, CLASSES, classes=2)
    expected = F.binary_cross_entropy_with_logits(z, t.double(), pos_weight=WEIGHTS)
    near(losses.binary_cross_entropy(z, t, class_weights=WEIGHTS), expected)
    for gamma in (0.5, 2.0, 5.0):
        expected = sigmoid_focal_loss(z, t.double(), alpha=-1, gamma=gamma, reduction="mean")
        near(losses.sigmoid_focal(z, t, gamma=gamma), expected)


# --- segmentation --------------------------------------------------------------------------------

MASK_SHAPE = (3, 5, 6)


def masks() -> Tensor:
    t = labels(*MASK_SHAPE)
    t[1][t[1] == 3] = 0  # a class that one image lacks
    return t


def dice_by_formula(z: Tensor, t: Tensor, keep: Tensor, smooth: float) -> np.ndarray:
    """Image by image, class by class, over the pixels that are kept: ``(B, C)``."""
    p = softmax(z.numpy(), axis=1)
    result = np.empty((len(z), CLASSES))
    for image, c in product(range(len(z)), range(CLASSES)):
        inside = keep[image].numpy()
        g, q = (t[image].numpy() == c)[inside], p[image, c][inside]
        fraction = (2 * (q * g).sum() + smooth) / ((q * q).sum() + (g * g).sum() + smooth)
        result[image, c] = 1 - fraction
    return result


@pytest.mark.parametrize("smooth", [1.0, 1e-3])
@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_dice_follows_its_formula(smooth, ignore, weights):
    z, t = logits(3, CLASSES, 5, 6), masks()
    keep = torch.ones(MASK_SHAPE, dtype=torch.bool)
    if ignore:
        keep[0, :2] = False
        keep[2, :, 3] = False
    expected = dice_by_formula(z, t, keep, smooth)
    w = np.ones(CLASSES) if weights is None else weights.numpy()
    expected = (expected * w).sum(1) / w.sum()
    options = {"smooth": smooth, "class_weights": weights}
    if ignore:
        options["ignore_index"] = 255
        t = t.where(keep, 255)
    else:
        one_hot = F.one_hot(t, CLASSES).movedim(-1, 1)
        near(losses.dice(z, one_hot, **options), expected.mean())
    near(losses.dice(z, t, **options), expected.mean())
    near(losses.dice(z, t, reduction="none", **options), expected)
    options.pop("smooth")
    entropies = F.cross_entropy(
        z, t, weight=weights, ignore_index=options.get("ignore_index", -100), reduction="none"
    )
    of_images = entropies.sum((1, 2)) / (t != 255).sum((1, 2))
    both = losses.dice_cross_entropy(z, t, smooth=smooth, **options)
    near(both, (expected + of_images.numpy()).mean())


def test_dice_is_zero_for_a_perfect_and_near_one_for_a_wrong_mask():
    t = labels(2, 8, 8, classes=2)
    z = 100.0 * F.one_hot(t, 2).movedim(-1, 1)
    near(losses.dice(z, t), 0.0)
    assert losses.dice(-z, t, smooth=1e-6) > 0.999
    # A class that is nowhere costs nothing where it is not predicted.
    near(losses.dice(torch.cat([z, z[:, :1] - 300], 1), t), 0.0)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignored_pixels_do_not_count(name, weights):
    z, t = logits(3, CLASSES, 5, 6), masks()
    t[0, :2] = 255
    function = getattr(losses, name)
    options = {"class_weights": weights, "ignore_index": 255}
    kept_z, kept_t = z.movedim(1, -1)[t != 255], t[t != 255]
    near(function(z, t, **options), function(kept_z, kept_t, class_weights=weights).item())
    if name == "cross_entropy":
        expected = F.cross_entropy(z, t, weight=weights, ignore_index=255)
        near(function(z, t, **options), expected.item())
    each = function(z, t, reduction="none", **options)
    for image in range(3):
        inside = t[image] != 255
        pixels = z[image].movedim(0, -1)[inside], t[image][inside]
        near(each[image], function(*pixels, class_weights=weights, reduction="none").mean().item())


@pytest.mark.parametrize("name", get_args(SegmentationLoss))
def test_an_image_without_a_pixel_that_counts_costs_nothing(name):
    z = logits(2, CLASSES, 3, 3).requires_grad_()
    t = torch.full((2, 3, 3), 255)
    loss = segmentation_loss(name, ignore_index=255)
    assert loss(z, t).item() == 0
    assert torch.equal(loss(z, t, "none"), torch.zeros(2, dtype=torch.float64))
    loss(z, t).backward()
    assert not z.grad.any()


# --- regression ----------------------------------------------------------------------------------

RESIDUALS = torch.tensor([-30.0, -2.0, -0.5, -1e-3, 0.0, 1e-3, 0.3, 1.5, 50.0], dtype=torch.float64)
BY_RESIDUAL = {
    "mse": lambda r, d, q: r**2,
    "mae": lambda r, d, q: np.abs(r),
    "huber": lambda r, d, q: np.where(np.abs(r) < d, r**2 / 2, d * (np.abs(r) - d / 2)),
    "pseudo_huber": lambda r, d, q: d**2 * (np.sqrt(1 + (r / d) ** 2) - 1),
    "log_cosh": lambda r, d, q: np.logaddexp(r, -r) - np.log(2),
    "quantile": lambda r, d, q: np.where(r < 0, -q * r, (1 - q) * r),
}


@pytest.mark.parametrize("name", get_args(RegressionLoss))
@pytest.mark.parametrize(("delta", "q"), [(1.0, 0.5), (0.4, 0.9)])
def test_regression_follows_its_formula(name, delta, q):
    targets = torch.linspace(-3, 3, len(RESIDUALS), dtype=torch.float64)
    loss = regression_loss(name, huber_delta=delta, quantile=q)
    expected = BY_RESIDUAL[name](RESIDUALS.numpy(), delta, q)
    each = loss(targets + RESIDUALS, targets, "none")
    torch.testing.assert_close(each, torch.as_tensor(expected), rtol=1e-8, atol=1e-12)
    near(loss(targets + RESIDUALS, targets), each.mean().item())
    table = (targets + RESIDUALS).view(3, 3), targets.view(3, 3)
    near(loss(*table, "none"), each.view(3, 3).mean(1))


def test_regression_is_torchs():
    x, t = logits(9), logits(9, seed=1)
    near(losses.huber(x, t, delta=0.7), F.huber_loss(x, t, delta=0.7).item())
    near(losses.mse(x, t), F.mse_loss(x, t).item())
    near(losses.mae(x, t), F.l1_loss(x, t).item())
    near(losses.huber(x, t, delta=1e3), F.mse_loss(x, t).item() / 2)
    near(losses.pinball(x, t), F.l1_loss(x, t).item() / 2)


def derivatives(name: str, r: Tensor, delta: float = 1.0) -> tuple[Tensor, Tensor]:
    r = r.clone().requires_grad_()
    loss = regression_loss(name, huber_delta=delta)(r, torch.zeros_like(r), "none").sum()
    (first,) = torch.autograd.grad(loss, r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    return first.detach(), second


def test_huber_against_the_smoother_losses():
    """What the module says of small and large residuals and of the second derivative."""
    bend = torch.tensor([0.5 - 1e-9, 0.5 + 1e-9], dtype=torch.float64)
    near(derivatives("huber", bend, 0.5)[1], [1.0, 0.0])
    r = torch.tensor([-3.0, -1.0, -0.1, 0.1, 1.0, 3.0], dtype=torch.float64)
    first, second = derivatives("pseudo_huber", r, 0.5)
    near(first, r / (1 + (r / 0.5) ** 2).sqrt())
    near(second, (1 + (r / 0.5) ** 2) ** -1.5)
    first, second = derivatives("log_cosh", r)
    near(first, r.tanh())
    near(second, 1 / r.cosh() ** 2)
    near(derivatives("huber", r, 0.5)[0], r.clamp(-0.5, 0.5))
    assert derivatives("pseudo_huber", torch.ones(1))[1].item() == pytest.approx(0.35, abs=0.005)
    assert derivatives("log_cosh", torch.ones(1))[1].item() == pytest.approx(0.42, abs=0.005)

    zero, far = torch.zeros(1, dtype=torch.float64), torch.tensor([1e6], dtype=torch.float64)
    d = 0.5
    for name, line in [("huber", d * far - d**2 / 2), ("pseudo_huber", d * far - d**2)]:
        loss = regression_loss(name, huber_delta=d)(far, zero)
        assert loss.item() == pytest.approx(line.item(), abs=1e-5)
    loss = regression_loss("log_cosh")(far, zero)
    assert loss.item() == pytest.approx(1e6 - math.log(2), abs=1e-5)


def test_small_residuals_keep_their_derivative_in_float32():
    r = torch.tensor([1e-4, 1e-3], requires_grad=True)
    for name in ("pseudo_huber", "log_cosh"):
        (slope,) = torch.autograd.grad(regression_loss(name)(r, torch.zeros(2), "none").sum(), r)
        torch.testing.assert_close(slope, r.detach(), rtol=2e-3, atol=0)
    each = regression_loss("pseudo_huber")(r, torch.zeros(2), "none")
    torch.testing.assert_close(each, r.detach() ** 2 / 2)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.8])
def test_the_pinballs_minimum_is_the_quantile(q):
    sample = logits(101).sort().values
    costs = [losses.pinball(guess.expand(101), sample, q=q) for guess in sample]
    assert int(torch.stack(costs).argmin()) == round(q * 100)


# --- gradients -----------------------------------------------------------------------------------


def test_gradients_are_those_of_finite_differences():
    z, maps = logits().requires_grad_(), logits(2, CLASSES, 2, 3).requires_grad_()
    t, many = labels(), labels(SAMPLES, CLASSES, classes=2)
    pixels = labels(2, 2, 3)
    pixels[0, 0] = 255
    weighted = {"class_weights": WEIGHTS, "label_smoothing": 0.1}
    for call in (
        lambda z: losses.focal(z, t, gamma=1.5, **weighted),
        lambda z: losses.focal(z, mixed(), gamma=0.5, **weighted),
        lambda z: losses.generalized_cross_entropy(z, t, q=0.6, **weighted),
        lambda z: losses.sigmoid_focal(z, many, gamma=1.5, **weighted),
        lambda z: losses.pseudo_huber(z, logits(seed=5), delta=0.7),
        lambda z: losses.log_cosh(z, logits(seed=5)),
        lambda z: losses.pinball(z, logits(seed=5), q=0.3),
    ):
        assert torch.autograd.gradcheck(call, z)
    for call in (
        lambda z: losses.dice(z, pixels, ignore_index=255),
        lambda z: losses.dice_cross_entropy(z, pixels, ignore_index=255),
        lambda z: losses.focal(z, pixels, ignore_index=255),
    ):
        assert torch.autograd.gradcheck(call, maps)


EXTREMES = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [1e4, 1e4, -1e4]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_extreme_logits_have_finite_losses_and_gradients(dtype, label, smoothing, gamma):
    t = torch.full((4,), label)
    many = F.one_hot(t, 3)
    options = {"label_smoothing": smoothing, "focal_gamma": gamma, "gce_q": 0.5}
    calls = [
        *((classification_loss(n, label_kind="multiclass", **options), t) for n in ONE_CLASS),
        *(
            (classification_loss(n, label_kind="multilabel", **options), many)
            for n in ("binary_cross_entropy", "focal")
        ),
        *(
            (segmentation_loss(n, focal_gamma=gamma), t.view(4, 1, 1))
            for n in get_args(SegmentationLoss)
        ),
    ]
    for loss, target in calls:
        z = EXTREMES.to(dtype, copy=True).requires_grad_()
        value = loss(z[..., None, None] if target.ndim == 3 else z, target)
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite(), loss
        assert z.grad.isfinite().all(), loss


@pytest.mark.parametrize("name", get_args(RegressionLoss))
@pytest.mark.parametrize("size", [0.0, 1e4, 1e15])
def test_extreme_residuals_have_finite_losses_and_gradients(name, size):
    r = torch.tensor([-size, size], requires_grad=True)
    value = regression_loss(name, huber_delta=0.01)(r, torch.zeros(2))
    value.backward()
    assert value.isfinite()
    assert r.grad.isfinite().all()


@pytest.mark.parametrize("name", ONE_CLASS)
def test_learns(name):
    torch.manual_seed(0)
    x = torch.randn(60, 5)
    t = (x @ torch.randn(5, 3)).argmax(1)
    net, loss = nn.Linear(5, 3), classification_loss(name, label_kind="multiclass")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(net(x), t).backward()
        optimizer.step()
    assert (net(x).argmax(1) == t).float().mean() > 0.95


# --- by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *product(ONE_CLASS, ("multiclass", "binary", "ordinal")),
        ("binary_cross_entropy", "multilabel"),
        ("focal", "multilabel"),
    ],
)
def test_options_arrive_under_their_names(name, kind):
    """Each option changes the loss as the function called by hand says."""
    z = logits()
    t = labels(SAMPLES, CLASSES, classes=2) if kind == "multilabel" else labels()
    function = getattr(losses, "sigmoid_focal" if (name, kind) == ("focal", "multilabel") else name)
    own = {"focal": {"gamma": 3.0}, "generalized_cross_entropy": {"q": 0.4}}.get(name, {})
    loss = classification_loss(
        name,
        label_kind=kind,
        label_smoothing=0.3,
        class_weights=WEIGHTS.float(),
        focal_gamma=3.0,
        gce_q=0.4,
    )
    expected = function(z, t, class_weights=WEIGHTS, label_smoothing=0.3, **own)
    near(loss(z, t), expected.item())
    near(loss(z, t, "none"), function(z, t, class_weights=WEIGHTS, label_smoothing=0.3,
                                      reduction="none", **own))  # fmt: skip
    assert "label_smoothing=0.3" in repr(loss)
    assert "class_weights=[0.5, 2.0, 0.0, 1.5]" in repr(loss)


def test_segmentation_options_arrive_under_their_names():
    z, t = logits(3, CLASSES, 5, 6), masks()
    t[0, 0] = 9
    shared = {"class_weights": WEIGHTS, "ignore_index": 9}
    for name, own in [
        ("cross_entropy", {}),
        ("focal", {"gamma": 3.0}),
        ("dice", {"smooth": 0.2}),
        ("dice_cross_entropy", {"smooth": 0.2}),
    ]:
        loss = segmentation_loss(name, focal_gamma=3.0, dice_smooth=0.2, **shared)
        near(loss(z, t), getattr(losses, name)(z, t, **shared, **own).item())


def test_class_weights_follow_the_module_and_stay_out_of_the_checkpoint():
    loss = classification_loss(
        "cross_entropy", label_kind="multiclass", class_weights=torch.tensor([1, 2, 3, 4])
    )
    assert loss.state_dict() == {}
    assert loss.to("meta").class_weights.device.type == "meta"


def test_pixels_may_be_bytes():
    z, t = logits(3, CLASSES, 5, 6), masks()
    for name in get_args(SegmentationLoss):
        loss = segmentation_loss(name, class_weights=WEIGHTS, ignore_index=3)
        assert torch.equal(loss(z, t.to(torch.uint8)), loss(z, t))


def test_single_precision_targets_fit_half_precision_outputs():
    x, t = torch.randn(8).bfloat16(), torch.randn(8).double()
    value = regression_loss("mse")(x, t)
    assert value.dtype == torch.float32
    near(value, F.mse_loss(x.float(), t.float()).item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_is_summed_in_single_precision(dtype, autocast):
    """Of 256 x 256 pixels a sum in float16 overflows, and autocast rounds a matrix product."""
    z, t = logits(2, CLASSES, 256, 256).to(dtype), labels(2, 256, 256)
    calls = [
        *((getattr(losses, name), z, t) for name in (*ONE_CLASS, "dice", "dice_cross_entropy")),
        *(
            (getattr(losses, name), z[:, :, 0, 0], F.one_hot(t[:, 0, 0], CLASSES))
            for name in ("binary_cross_entropy", "sigmoid_focal")
        ),
    ]
    for function, outputs, target in calls:
        for weights in (None, WEIGHTS.to(dtype)):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                value = function(outputs, target, class_weights=weights)
            exact = None if weights is None else weights.double()
            expected = function(outputs.double(), target, class_weights=exact)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "binary_cross_entropy",
            {"label_kind": "multiclass"},
            "option loss is 'binary_cross_entropy'; give one of cross_entropy, focal, "
            "generalized_cross_entropy, as the data's labels are multiclass",
        ),
        (
            "cross_entropy",
            {"label_kind": "multilabel"},
            "option loss is 'cross_entropy'; give one of binary_cross_entropy, focal, as the "
            "data's labels are multilabel",
        ),
        ("generalized_cross_entropy", {"label_kind": "multilabel"}, "one of binary_cross_entropy"),
        ("focl", {}, "loss is 'focl'; give one of cross_entropy"),
        ("cross_entropy", {"label_kind": "multiclas"}, "label_kind is 'multiclas'"),
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ("cross_entropy", {"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ("cross_entropy", {"label_smoothing": math.nan}, "label_smoothing is nan"),
        ("focal", {"focal_gamma": -1.0}, "focal_gamma is -1.0"),
        ("focal", {"focal_gamma": math.inf}, "focal_gamma is inf"),
        ("generalized_cross_entropy", {"gce_q": 0.0}, "gce_q is 0.0"),
        ("generalized_cross_entropy", {"gce_q": 1.1}, "gce_q is 1.1"),
        ("focal", {"class_weights": torch.tensor([1.0, -1.0])}, "class_weights is [1.0, -1.0]"),
        ("focal", {"class_weights": torch.tensor([1.0, math.nan])}, "class_weights is [1.0, nan]"),
        ("focal", {"class_weights": torch.zeros(2)}, "class_weights is [0.0, 0.0]"),
        ("focal", {"class_weights": torch.ones(2, 1)}, "class_weights is [[1.0], [1.0]]"),
    ],
)
def test_classification_refuses(name, options, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        classification_loss(name, **{"label_kind": "multiclass", **options})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: segmentation_loss("dise"),
            r"loss is 'dise'; give one of .* .did you mean 'dice'\?",
        ),
        (lambda: segmentation_loss("dice", dice_smooth=0.0), r"dice_smooth is 0\.0"),
        (lambda: segmentation_loss("focal", focal_gamma=-2.0), r"focal_gamma is -2\.0"),
        (lambda: segmentation_loss("dice", class_weights=-torch.ones(2)), "class_weights is "),
        (
            lambda: regression_loss("hubert"),
            r"loss is 'hubert'; give one of .* .did you mean 'huber'\?",
        ),
        (lambda: regression_loss("huber", huber_delta=0.0), r"huber_delta is 0\.0"),
        (lambda: regression_loss("huber", huber_delta=math.nan), "huber_delta is nan"),
        (lambda: regression_loss("quantile", quantile=1.0), r"quantile is 1\.0"),
        (lambda: regression_loss("quantile", quantile=0.0), r"quantile is 0\.0"),
    ],
)
def test_other_factories_refuse(call, said):
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        # (B, 1) and (B,) would be broadcast to (B, B)
        (lambda: losses.mse(torch.zeros(8, 1), torch.zeros(8)), r"\(8,\) .* \(8, 1\)"),
        (lambda: losses.binary_cross_entropy(logits(), labels()), "same shape"),
        (lambda: losses.sigmoid_focal(logits(), labels(CLASSES)), "same shape"),
        (lambda: losses.focal(logits(), labels(3)), r"give class indices \(7,\)"),
        (lambda: losses.cross_entropy(logits(5, 1), labels(5)), "one class.*two at least"),
        (lambda: losses.focal(logits(), labels(), class_weights=WEIGHTS[:1]), "1 numbers.*4 class"),
        (lambda: losses.dice(logits(2, 4, 3, 3), labels(2, 3, 2)), r"give class indices \(2, 3, 3"),
        (
            lambda: losses.sigmoid_focal(logits(), mixed(), class_weights=WEIGHTS[:1]),
            "class_weights has 1 numbers",
        ),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# --- a net that ends in probabilities ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["multiclass", "binary", "ordinal", "multilabel"])
@pytest.mark.parametrize(
    "probabilities",
    [
        logits(16, 3).softmax(1),
        logits(16, 1000).float().softmax(1),
        logits(1, 10).softmax(1),
        (1e4 * logits(16, 3)).softmax(1),  # zeros and ones
        torch.full((4, 7), 1 / 7),  # a last layer that starts at zero
        logits(16, 1000).bfloat16().softmax(1),
        logits(16, 1000).half().softmax(1),
        logits(2, 3, 4, 4).softmax(1),
    ],
)
def test_softmax_is_refused(probabilities, kind):
    with pytest.raises(ValueError, match=r"squashed twice.*only badly; remove the softmax") as said:
        check_logits(probabilities, kind)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("probabilities", "kind"),
    [
        (logits(16, 3).sigmoid(), "multilabel"),
        (logits(16, 1).sigmoid(), "binary"),
        (logits(16).sigmoid(), "binary"),
        (torch.full((16, 3), 0.5), "multilabel"),  # a last layer that starts at zero
    ],
)
def test_sigmoid_is_refused_by_its_values(probabilities, kind):
    with pytest.raises(ValueError, match=r"squashed twice.*remove the sigmoid"):
        check_logits(probabilities, kind)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "binary"])
@pytest.mark.parametrize("samples", [1, 16])
@pytest.mark.parametrize("bias", [-9.0, 0.0, 9.0])
@pytest.mark.parametrize("tail", [[], [nn.Flatten()], [nn.Unflatten(1, (3, 1)), nn.Flatten()]])
def test_sigmoid_is_refused_by_its_graph(kind, samples, bias, tail):
    net = nn.Sequential(nn.Linear(5, 3), nn.Sigmoid(), *tail)
    nn.init.constant_(net[0].bias, bias)
    with pytest.raises(ValueError, match="remove the sigmoid"):
        check_logits(net(torch.randn(samples, 5)), kind)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (torch.zeros(16, 3), "multiclass"),
        (torch.zeros(16, 3), "multilabel"),
        (torch.zeros(16, 1), "binary"),
        (torch.zeros(16), "binary"),
        (torch.ones(16, 3), "multilabel"),
        (torch.full((16, 3), 0.1), "multilabel"),
        (torch.full((1, 1), 0.5), "binary"),  # one value says nothing
        (torch.tensor([[0.3, 0.8]]), "multilabel"),
        (logits(16, 3), "multiclass"),
        (logits(16, 3), "multilabel"),
        (logits(16, 3).log_softmax(1), "multiclass"),  # its softmax is itself
        (logits(16, 3) / logits(16, 3).sum(1, keepdim=True), "multiclass"),  # one, with negatives
        (logits(16, 4).sigmoid(), "multiclass"),  # rows of any sum, no graph
        (torch.full((16, 3), math.nan), "multilabel"),
        (torch.zeros(0, 3), "multilabel"),
    ],
)
def test_logits_pass(given, kind):
    check_logits(given, kind)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_linear_layer_passes_whatever_its_values(outputs):
    """Logits of a small head may all lie between 0 and 1 by chance."""
    head = nn.Sequential(nn.Linear(5, outputs), nn.Flatten())
    nn.init.constant_(head[0].bias, 0.5)
    nn.init.normal_(head[0].weight, std=0.02)
    z = head(torch.randn(64, 5))
    assert 0 <= z.min() <= 0.5 <= z.max() <= 1
    check_logits(z, "multilabel")
    check_logits(z, "binary")


def test_probabilities_instead_of_logits_have_the_bounds_of_the_docstring():
    classes = 10
    floor = math.log(1 + (classes - 1) / math.e)
    assert floor == pytest.approx(1.46, abs=0.005)
    p = logits(500, classes).mul(5).softmax(1)
    p[0] = F.one_hot(torch.tensor(0), classes)
    p.requires_grad_()
    t = labels(500, classes=classes)
    t[0] = 0
    each = losses.cross_entropy(p, t, reduction="none")
    near(each[0], floor)
    assert each.min() >= floor - 1e-12
    (slope,) = torch.autograd.grad(each.sum(), p)
    at_label = -slope[torch.arange(500), t]
    assert at_label.min() >= 1 - math.e / (math.e + classes - 1) - 1e-12
    assert at_label.max() < 1
    # Sure and wrong: next to nothing reaches what is before the softmax.
    z = torch.tensor([[20.0, 0.0]], requires_grad=True)
    wrong = torch.tensor([1])
    (once,) = torch.autograd.grad(losses.cross_entropy(z, wrong), z)
    (twice,) = torch.autograd.grad(losses.cross_entropy(z.softmax(1), wrong), z)
    assert once.abs().max() > 0.99
    assert twice.abs().max() < 1e-7
