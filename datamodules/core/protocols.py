"""What a task may ask of the data, and what both sides agree on."""

#: The label of a token that has no loss; torch's own default.
IGNORE_INDEX = -100

#: The class of a pixel that has no loss; a mask is uint8, which -100 does not fit.
MASK_IGNORE_INDEX = 255
