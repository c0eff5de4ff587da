"""Losses, chosen by name.

Shapes: ``B`` samples, ``C`` classes; ``...`` stands for nothing (classification) or for further
axes such as ``H, W`` (segmentation). The arguments that many share:

* ``logits`` are ``(B, C, ...)``, and their ``targets`` class indices ``(B, ...)`` or class
  probabilities ``(B, C, ...)`` as MixUp makes; of labels one by one both are ``(B, C)``; of numbers
  ``predictions`` and ``targets`` are of one shape, ``(B, ...)``. Another shape, which would be
  broadcast silently, is a ``ValueError``.
* ``class_weights``, ``(C,)``: ``w`` below, a factor on the samples of each class, or on each
  label's presence.
* ``label_smoothing``: ``e``, the share of the target that is spread evenly over all classes (over
  presence and absence of a label). A sample has the weight of its own label, and the spread share
  is not weighted by class.
* ``ignore_index``: the class index whose elements do not count.
* Outputs in half precision are raised to float32, and so is the loss.
* ``reduction``: ``mean`` gives one number for the batch, ``none`` one number a sample, ``(B,)``:
  the mean over the sample's own elements (labels of a multi-label target, columns of a regression,
  pixels that count).

**Classification** takes logits ``z``, never probabilities; :func:`check_logits` says why. With
``p = softmax(z)``, ``s = sigmoid(z)``, targets ``t`` and class weights ``w`` (1 where left out),
the loss of one sample is, for labels of one class out of several (multiclass, binary, ordinal),
with ``u_c = (1 - e) w_c t_c + (e / C) sum_k w_k t_k``, which is ``t_c`` if neither is given:

* cross_entropy: ``-sum_c u_c log p_c``
* focal: ``-sum_c u_c (1 - p_c)^gamma log p_c``
* generalized_cross_entropy: ``sum_c u_c (1 - p_c^q) / q``

and for multi-label ones, with ``n_c = w_c t_c + 1 - t_c``, ``u_c = (1 - e) w_c t_c + (e / 2) n_c``
and ``v_c = (1 - e) (1 - t_c) + (e / 2) n_c``:

* binary_cross_entropy: ``-mean_c (u_c log s_c + v_c log(1 - s_c))``
* focal: ``-mean_c (u_c (1 - s_c)^gamma log s_c + v_c s_c^gamma log(1 - s_c))``

**Regression** works on the residual ``r = prediction - target``; ``d`` is ``huber_delta``:

============ ============================ ========================== ======================
name         small ``|r|``                large ``|r|``              first derivative
============ ============================ ========================== ======================
mse          ``r^2``                      ``r^2``                    ``2 r``
mae          ``|r|``                      ``|r|``                    ``sign r``
huber        ``r^2 / 2`` up to ``d``      ``d |r| - d^2 / 2``        ``clamp(r, -d, d)``
pseudo_huber near ``r^2 / 2``             near ``d |r| - d^2``       ``r / sqrt(1 + (r/d)^2)``
log_cosh     near ``r^2 / 2``             near ``|r| - log 2``       ``tanh r``
quantile     ``-q r`` or ``(1 - q) r``    ``-q r`` or ``(1 - q) r``  ``-q`` or ``1 - q``
============ ============================ ========================== ======================

Huber's loss against the smoother ones: all three are a parabola for small residuals and a straight
line for large ones, so an outlier pulls with a bounded force (``d``, or 1 for log_cosh), unlike
mse, and the gradient goes to 0 with the residual, unlike mae, whose steps of constant length make
a net hover around the minimum. They differ in the second derivative. Huber's jumps from 1 to 0 at
``|r| = d``: beyond it the curvature is exactly 0, by which Newton's method and gradient boosting
divide. Pseudo-Huber's, ``(1 + (r / d)^2)^(-3/2)``, and log-cosh's, ``1 / cosh^2 r``, are continuous
and positive everywhere. The price: they bend well before ``d``, so that residuals below it are no
longer weighted as by mse (at ``r = d`` the curvature of pseudo-Huber is 0.35, of log-cosh 0.42).
Log-cosh has no ``d``: its bend sits at residuals of about 1, so that targets should be
standardised. ``mse`` estimates the mean of the target, ``mae`` its median, ``quantile`` its
``q``-quantile; the other three lie between mean and median.
"""

from zoo.losses.base import LabelKind, Loss, Reduction, TargetKind
from zoo.losses.classification import (
    ClassificationLoss,
    binary_cross_entropy,
    classification_loss,
    cross_entropy,
    focal,
    generalized_cross_entropy,
    sigmoid_focal,
)
from zoo.losses.logits import check_logits
from zoo.losses.regression import (
    RegressionLoss,
    huber,
    log_cosh,
    mae,
    mse,
    pinball,
    pseudo_huber,
    regression_loss,
)
from zoo.losses.segmentation import (
    SegmentationLoss,
    dice,
    dice_cross_entropy,
    segmentation_loss,
)
from zoo.losses.tokens import logits_loss, token_loss, token_losses

__all__ = [
    "ClassificationLoss",
    "LabelKind",
    "Loss",
    "Reduction",
    "RegressionLoss",
    "SegmentationLoss",
    "TargetKind",
    "binary_cross_entropy",
    "check_logits",
    "classification_loss",
    "cross_entropy",
    "dice",
    "dice_cross_entropy",
    "focal",
    "generalized_cross_entropy",
    "huber",
    "log_cosh",
    "logits_loss",
    "mae",
    "mse",
    "pinball",
    "pseudo_huber",
    "regression_loss",
    "segmentation_loss",
    "sigmoid_focal",
    "token_loss",
    "token_losses",
]
