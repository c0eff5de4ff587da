"""A convolutional net for texts: Kim's, for sentences and other short ones."""

from typing import ClassVar

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from datamodules.core.errors import refuse
from zoo.nets.checks import check_positive, check_rate, check_text_counts
from zoo.nets.layers.embeddings import TokenEmbedding
from zoo.nets.layers.pooling import prepare_texts

_KERNEL_SIZES = (3, 4, 5)
#: The deviation of the uniform distribution from -0.25 to 0.25, which the paper's program draws.
_START_STD = 0.25 / 3**0.5


class TextCNN(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-classification"):
    """Kim's convolutional text classifier: filters of several widths, the maximum of each, linear.

    Token ids ``(B, T)`` become logits ``(B, num_classes)``.

    Each filter looks at 3, 4 or 5 tokens in a row wherever they stand, and the text is known by how
    well each filter fits at its best place. A window may begin before the text or end after it, as
    long as it holds a token of it; what lies outside counts as zeros. So a text may be shorter than
    the filters, and how far it is padded does not change its logits.

    Source: Kim, "Convolutional neural networks for sentence classification", arXiv 1408.5882, the
    variant CNN-rand; with the task's ``vectors`` it is CNN-non-static, with ``freeze_embeddings``
    besides CNN-static. Deviations: windows of padding alone, which the paper's program has wherever
    a text is short, are left out; the start values of all but the embedding are torch's; the last
    layer's rows are not kept to a norm of 3, for which weight decay has to do; there is no variant
    with two tables of vectors.

    Args:
        vocab_size: Number of tokens.
        num_classes: Number of classes.
        pad_id: Id of the padding token.
        embedding_dim: Length of a token's vector.
        kernel_sizes: How many tokens in a row filters look at; by default 3, 4 and 5.
        num_filters: Filters of each size.
        dropout: Probability of dropping a filter's maximum before the last layer.
        embedding_dropout: Probability of dropping a word from a text, wherever it stands in it
            (arXiv 1512.05287); the paper has none.
        freeze_embeddings: Whether the tokens' vectors are kept as they are; for those from a file.

    Raises:
        ValueError: If an option's value does not fit.
    """

    #: Names of the modules that end in logits; all others are the backbone.
    head_names: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        *,
        pad_id: int = 0,
        embedding_dim: int = 300,
        kernel_sizes: list[int] | None = None,
        num_filters: int = 100,
        dropout: float = 0.5,
        embedding_dropout: float = 0.0,
        freeze_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        check_text_counts(vocab_size, num_classes, pad_id)
        check_positive(num_filters=num_filters)
        check_rate("dropout", dropout)
        sizes = list(_KERNEL_SIZES if kernel_sizes is None else kernel_sizes)
        if min(sizes, default=0) < 1:
            raise refuse("kernel_sizes", sizes, "give one or more numbers of tokens, such as [3]")

        self.pad_id = pad_id
        self.embedding = TokenEmbedding(
            vocab_size,
            embedding_dim,
            pad_id=pad_id,
            word_dropout=embedding_dropout,
            std=_START_STD,
            freeze=freeze_embeddings,
        )
        self.convs = nn.ModuleList(
            nn.Conv1d(embedding_dim, num_filters, size, padding=size - 1) for size in sizes
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(num_filters * len(sizes), num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify texts.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default the count of those that are not
                padding.

        Returns:
            Logits ``(B, num_classes)``.
        """
        texts = prepare_texts(tokens, lengths, self.pad_id)
        x = self.embedding(texts.tokens).transpose(1, 2)  # (B, D, T), zeros from a text's end on
        maxima = []
        for conv in self.convs:
            y = conv(x)  # (B, num_filters, T + size - 1)
            # A text of L tokens has L + size - 1 windows with a token of it; the rest is padding.
            windows = texts.lengths + (y.shape[2] - x.shape[2])
            behind = torch.arange(y.shape[2], device=y.device) >= windows.unsqueeze(1)
            # ReLU after the maximum, of which there are fewer: as it grows, the order is the same.
            maxima.append(y.masked_fill(behind.unsqueeze(1), -torch.inf).amax(dim=2).relu())
        logits: Tensor = self.fc(self.dropout(torch.cat(maxima, dim=1)))
        return logits
