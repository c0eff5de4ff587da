"""What other programs call what the zoo has by another name, or has not."""

#: Losses, norms, activations and figures.
OTHER_NAMES = {
    "ce": "cross_entropy",
    "bce": "binary_cross_entropy",
    "l1": "mae",
    "l2": "mse",
    "pinball": "quantile",
    "bn": "batch",
    "gn": "group",
    "ln": "layer",
    "swish": "silu",
    "accuracy": "acc",
    "auc": "auroc",
    "ppl": "perplexity",
}
#: Optimisers that are not at hand, and what does instead.
NOT_OFFERED = {
    "lion": "torch has none; give adamw or muon",
    "lamb": "torch has none; give adamw",
    "lars": "torch has none; give sgd",
    "nesterov": "give sgd, whose momentum is Nesterov's",
    "lbfgs": "it wants all samples in each step; give adamw",
    "nadam": "give adamw, the nearest of those at hand",
    "radam": "give adamw with warmup_steps, which RAdam does without",
    "adamax": "give adamw, the nearest of those at hand",
    "adafactor": "give adamw, the nearest of those at hand",
    "adagrad": "give rmsprop, the nearest of those at hand",
    "adadelta": "give rmsprop, the nearest of those at hand",
}
