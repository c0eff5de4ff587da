"""What a task, a callback or the command line may ask of the data, and what both sides agree on.

Data of somebody else's need nothing of it: whoever asks checks by ``isinstance`` first. Numbers of
samples are N, of a batch B; shapes are those of images ``(B, C, H, W)`` and of tokens ``(B, T)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from datamodules.core.copies import Copies
from datamodules.core.description import Description

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The label of a token that has no loss; torch's own default.
IGNORE_INDEX = -100

#: The class of a pixel that has no loss; a mask is uint8, which -100 does not fit.
MASK_IGNORE_INDEX = 255


def data_of(trainer: object) -> object:
    """Return the data module that a Trainer was given; None where it was given loaders."""
    return getattr(trainer, "datamodule", None)


# ---------------------------------------------------------------- facts


@runtime_checkable
class HasClassNames(Protocol):
    """Data of classes: ``class_names`` holds one name a class, in the order of their numbers."""

    class_names: Sequence[str]


@runtime_checkable
class HasLabelKind(Protocol):
    """Data that say what their labels are: ``label_kind`` is one of ``zoo.losses.TargetKind``."""

    label_kind: str


@runtime_checkable
class HasTargetName(Protocol):
    """Data of numbers to predict: ``target_name`` is what the number is called."""

    target_name: str


@runtime_checkable
class HasInputShape(Protocol):
    """Data of one shape: a sample is ``input_shape``, ``(C, H, W)`` or ``(F,)``."""

    input_shape: tuple[int, ...]


@runtime_checkable
class HasNumClasses(Protocol):
    """Data that know how many numbers a net gives for a sample, or a pixel: ``num_classes``."""

    num_classes: int


@runtime_checkable
class HasMaxLength(Protocol):
    """Rows of tokens: ``T`` is at most ``max_length``."""

    max_length: int


@runtime_checkable
class HasUsualLength(Protocol):
    """Texts of which half are longer than ``usual_length``, in tokens."""

    usual_length: int


@runtime_checkable
class HasNames(Protocol):
    """Inputs that have N names by their numbers, such as those of their files."""

    names: Sequence[str]


@runtime_checkable
class HasBroken(Protocol):
    """Inputs of which some could not be read: ``broken`` says why, by their numbers."""

    broken: Mapping[int, str]


@runtime_checkable
class GivesTuples(Protocol):
    """Data whose batches are plain pairs where ``as_tuple`` is true."""

    as_tuple: bool


@runtime_checkable
class HasTokenizer(Protocol):
    """Texts as tokens: ``text_tokenizer`` made them."""

    text_tokenizer: Vocabulary


class Vocabulary(Protocol):
    """The words of a tokenizer."""

    def vocabulary(self) -> Mapping[str, int]:
        """Return every token's number."""

    def token(self, number: int) -> str:
        """Return the token of a number."""


# ---------------------------------------------------------------- what a task asks for


@runtime_checkable
class SupportsClassWeights(Protocol):
    """Data that can count their classes."""

    def class_weights(self) -> list[float]:
        """Return a factor for each class, inverse to its share of the training split."""


@runtime_checkable
class SupportsSampleImages(Protocol):
    """Images that a net may be started from."""

    def sample_images(self, count: int) -> Tensor:
        """Return some training images as a net sees them: floats (count, C, H, W), normalised."""


@runtime_checkable
class SupportsTokenSizes(Protocol):
    """Tokens whose texts are known."""

    def token_sizes(self) -> Tensor | None:
        """Return the bytes and the characters of each token, ``(V, 2)``; None if not known."""


@runtime_checkable
class SupportsRebuilding(Protocol):
    """Data that can be made again from a checkpoint."""

    def resolved(self) -> dict[str, Any]:
        """Return class path and arguments of the data, as a recipe has them."""

    def inputs_spec(self) -> dict[str, Any]:
        """Return class path and arguments of what prepares new inputs alike, for ``predict``."""


@runtime_checkable
class SupportsMarks(Protocol):
    """Data that can be told from other data."""

    def marks(self) -> dict[str, str]:
        """Return what changes with the samples of a split, for each split that is loaded."""


# ---------------------------------------------------------------- what callbacks ask for


@runtime_checkable
class SupportsPrompts(Protocol):
    """Texts that a language model goes on from; ``stop_ids`` are tokens at which a text ends."""

    stop_ids: Sequence[int]

    def default_prompts(self) -> list[str]:
        """Return the texts to go on from where the user gives none."""

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return a text's tokens, within its chat template where there is one."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""


@runtime_checkable
class SupportsDrawBatch(Protocol):
    """Data that can show themselves."""

    def draw_batch(self, stage: Any = ...) -> Figure:
        """Draw a batch of a split, as the net sees it."""


@runtime_checkable
class SupportsDenormalize(Protocol):
    """Normalised images."""

    def denormalize(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) as they were before: uint8."""


@runtime_checkable
class SupportsTexts(Protocol):
    """Texts that can be looked up."""

    def texts(self, index: Sequence[int]) -> list[str]:
        """Return the texts of some samples' numbers."""


# ---------------------------------------------------------------- what the command line asks for


@runtime_checkable
class FitsChannels(Protocol):
    """Images whose channels may be chosen by the net."""

    def fit_channels(self, net: nn.Module) -> None:
        """Take as many channels as the net's first convolution does, where that is asked for."""


@runtime_checkable
class Described(Protocol):
    """Data that say what they are: for the table before a run, and for ``summary.json``."""

    def describe(self) -> Description:
        """Return what is known of the splits that are loaded."""


@runtime_checkable
class SupportsCopies(Protocol):
    """Data that look for copies among their samples."""

    def copies(self) -> Copies | None:
        """Return which samples are copies of others; None where that is not known."""


@runtime_checkable
class HasSmallestBatch(Protocol):
    """Data that know how many samples the smallest training batch of a process has."""

    smallest_train_batch: int


# ---------------------------------------------------------------- batches


@runtime_checkable
class HasLengths(Protocol):
    """A batch of texts: ``lengths``, int64 (B,), are each row's tokens without padding."""

    lengths: Tensor


@runtime_checkable
class PackedTokens(Protocol):
    """A batch of tokens that knows which texts share a row.

    ``position_ids``, int64 (B, T), are the places of tokens in their own texts (None: 0 to T - 1 in
    each row); ``segment_ids``, int64 (B, T), number the texts of a row (None: one text a row). The
    first ``shared_prefix_len`` tokens of a row belong to all of its texts.
    """

    position_ids: Tensor | None
    segment_ids: Tensor | None
    shared_prefix_len: int


def sample_numbers(batch: Any) -> Tensor | None:
    """Return the numbers (B,) of a batch's samples, where the data counts them.

    The ``index`` of a plain list or tuple is another thing: a method.
    """
    index = getattr(batch, "index", None)
    return index if isinstance(index, Tensor) else None
