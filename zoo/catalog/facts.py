"""What the data says about itself, and no recipe does."""

#: The command line hands each to the arguments of the same name.
FACTS = (
    "num_classes",
    "class_names",
    "in_channels",
    "image_size",
    "label_kind",
    "target_mean",
    "target_std",
    "vocab_size",
    "pad_id",
    "max_length",
)
