"""What the figures of a run are called, in ``metrics.csv`` and ``summary.json``."""

from typing import Literal

FigureName = Literal[
    "loss",
    "acc",
    "balanced_acc",
    "f1",
    "top5",
    "auroc",
    "ece",
    "entropy",
    "temperature",
    "ece_scaled",
    "nll_scaled",
    "entropy_scaled",
    "dice",
    "dice_of_images",
    "iou",
    "mse",
    "mae",
    "r2",
    "pearson",
    "perplexity",
    "bits_per_byte",
    "bits_per_char",
    "reward_accuracy",
    "reward_margin",
]
"""Figures, behind ``train/``, ``val/`` or ``test/``.

Names:
    loss: The loss; in validation and test without smoothing, mixing and weights of classes.
    acc: Accuracy: the share of samples, labels or pixels that are right.
    balanced_acc: The mean over classes of the share of each that is found.
    f1: The mean over classes of F1, which weighs what is missed and what is wrongly named.
    top5: The share of samples whose class is among the five likeliest.
    auroc: Area under the ROC curve; of several classes each against the rest, their mean.
    ece: Expected calibration error: how far confidence is from accuracy, in bins of confidence.
    entropy: How unsure the predictions are, in nats.
    temperature: The divisor of the logits that validation chose; above 1: the net was too sure.
    ece_scaled: As ece, at that temperature.
    nll_scaled: Mean negative log-likelihood in nats, at that temperature.
    entropy_scaled: As entropy, at that temperature.
    dice: Overlap of masks over their mean size; the mean over classes, background left out.
    dice_of_images: The mean of images' own Dice, over those with true or predicted foreground.
    iou: Overlap of masks over their union, likewise.
    mse: Mean squared error, in the target's own unit.
    mae: Mean absolute error, in the target's own unit.
    r2: R²: the share of the targets' variance that is explained.
    pearson: Pearson's correlation of predictions and targets.
    perplexity: ``exp(loss)``: among how many tokens the net seems to choose.
    bits_per_byte: Bits that each byte of text costs; comparable between tokenizers.
    bits_per_char: Bits that each character of text costs.
    reward_accuracy: The share of pairs whose chosen answer has more reward.
    reward_margin: How much more reward the chosen answers have, the mean.
"""

#: Those that say how far a classifier's probabilities can be trusted.
CALIBRATION: tuple[FigureName, ...] = (
    "ece",
    "entropy",
    "temperature",
    "ece_scaled",
    "nll_scaled",
    "entropy_scaled",
)
