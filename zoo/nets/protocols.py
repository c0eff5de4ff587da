"""What a task, a callback or the command line may ask of a net, beyond calling it.

A net is any ``nn.Module`` whose ``forward`` fits its task. Each protocol below is something more
that some nets can do; whoever wants it checks by ``isinstance`` and does without it otherwise, so
that a net of somebody else's trains as well.

The duties of a net of the zoo:

* plain, typed constructor arguments, images' nets starting with ``in_channels, num_classes``,
  texts' with ``vocab_size`` and ``pad_id``; a fixed set of values is a ``Literal``;
* ``PyTorchModelHubMixin`` among its bases records these arguments, from which a checkpoint
  rebuilds the net;
* :class:`Classifies` and :class:`HasHead` where it classifies;
* ``forward`` gives logits, never probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Classifies(Protocol):
    """A net that knows how many classes its logits are of."""

    num_classes: int


@runtime_checkable
class HasHead(Protocol):
    """A net that names its last layers, which ``freeze`` and ``backbone_lr_factor`` spare.

    ``head_names`` are names of submodules; auxiliary heads count among them.
    """

    head_names: Sequence[str]


@runtime_checkable
class RecordsArguments(Protocol):
    """A net that was given its constructor's arguments by ``PyTorchModelHubMixin``."""

    _hub_mixin_config: dict[str, Any]


@runtime_checkable
class RecordsBuilder(Protocol):
    """A net of another library, with what builds the like: class path and arguments."""

    builder_spec: dict[str, Any]


@runtime_checkable
class LimitsLength(Protocol):
    """A net that reads ``max_length`` tokens at the most; None where there is no limit."""

    max_length: int | None


@runtime_checkable
class KnowsVocabulary(Protocol):
    """A net with ``vocab_size`` tokens; token ids run from 0 to ``vocab_size - 1``."""

    vocab_size: int


@runtime_checkable
class HasOutputLayer(Protocol):
    """A language model whose loss may be computed in pieces, without all logits at once.

    ``output_layer`` makes logits ``(N, vocab)`` of features ``(N, D)``; None where the model has
    no such layer of its own.
    """

    @property
    def output_layer(self) -> nn.Module | None:
        """Return the last layer."""

    def features(
        self,
        tokens: Tensor,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        shared_prefix_len: int = 0,
    ) -> Tensor:
        """Map tokens ``(B, T)`` to what the output layer takes, ``(B, T, D)``.

        ``position_ids`` and ``segment_ids``, ``(B, T)``, tell the texts of packed rows apart; all
        of them begin with the row's first ``shared_prefix_len`` tokens.
        """


@runtime_checkable
class Steps(Protocol):
    """A language model that writes: it reads on from where it stopped."""

    def step(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Map tokens ``(B, T)`` to logits of what follows the last, ``(B, vocab)``, and a state."""


@runtime_checkable
class CarriesState(Protocol):
    """A recurrent language model whose state goes from one batch into the next."""

    def carry(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Map tokens ``(B, T)`` and a state to features ``(B, T, D)`` and the state after them."""


@runtime_checkable
class IsPretrained(Protocol):
    """A language model that could write before this training, where ``is_pretrained`` is true."""

    is_pretrained: bool


@runtime_checkable
class HasAdapter(Protocol):
    """A pretrained net that is trained by an adapter (LoRA) where ``lora`` is true."""

    lora: bool

    def adapter_off(self) -> AbstractContextManager[None]:
        """Give the base model's answers within the context."""


@runtime_checkable
class HasLayerDepths(Protocol):
    """A pretrained encoder whose learning rate may fall from layer to layer."""

    def layer_depths(self) -> dict[str, int]:
        """Return by parameter's name how many layers lie between it and the head."""


@runtime_checkable
class ShowsAttention(Protocol):
    """A text net whose pooling weighs the tokens."""

    def attention_weights(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return each token's share, ``(B, T)``, for tokens ``(B, T)`` and lengths ``(B,)``."""


@runtime_checkable
class Whitens(Protocol):
    """An image net whose first layer, where ``whiten`` is true, is computed from images."""

    whiten: bool

    def init_whitening(self, images: Tensor) -> None:
        """Set the first layer's filters from normalised training images ``(B, C, H, W)``."""


@runtime_checkable
class KnowsItsReach(Protocol):
    """A segmentation net that may be run tile by tile.

    ``downsampling`` is the factor between the input's pixels and those of the smallest map;
    ``receptive_field`` how many pixels a prediction looks to each side, None where it is all.
    """

    downsampling: int
    receptive_field: int | None
