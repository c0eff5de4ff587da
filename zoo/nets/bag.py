"""A bag of embeddings: fastText's text classifier, the baseline that others have to beat."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from zoo.nets.checks import check_positive, check_rate, check_text_counts
from zoo.nets.layers.embeddings import TokenEmbedding, hash_pair
from zoo.nets.layers.pooling import prepare_texts


class BagOfEmbeddings(nn.Module, PyTorchModelHubMixin, pipeline_tag="text-classification"):
    """Bag of embeddings: the mean of all vectors of words and n-grams, and a linear layer.

    Token ids ``(B, T)`` become logits ``(B, num_classes)``.

    A text of L tokens is ``L + (L - 1) + ... + (L - ngrams + 1)`` terms: its tokens and all runs of
    2 to ``ngrams`` tokens. A run has no vector of its own but one of ``buckets``, by its hash; what
    falls into one bucket shares its vector.

    Source: Joulin et al., "Bag of tricks for efficient text classification", arXiv 1607.01759, and
    its program fastText. Deviations: the loss is the task's, not a hierarchical softmax; n-grams
    are hashed as token ids by splitmix64's finaliser, where fastText hashes their spelling; no end
    of sentence is added; ids outside the vocabulary are the tokenizer's affair; the last layer
    starts from torch's values, where fastText's starts from zero.

    Args:
        vocab_size: Number of tokens.
        num_classes: Number of classes.
        pad_id: Id of the padding token.
        embedding_dim: Length of a vector.
        ngrams: Tokens of the longest run that has a vector; 1 for words alone.
        buckets: Vectors that all runs share.
        dropout: Probability of dropping a feature of the mean.
        freeze_embeddings: Whether the tokens' vectors are kept as they are; for those from a file.
            The vectors of the buckets are trained still.

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
        embedding_dim: int = 64,
        ngrams: int = 2,
        buckets: int = 200_000,
        dropout: float = 0.0,
        freeze_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        check_text_counts(vocab_size, num_classes, pad_id)
        check_positive(embedding_dim=embedding_dim, ngrams=ngrams, buckets=buckets)
        check_rate("dropout", dropout)

        self.pad_id = pad_id
        self.ngrams = ngrams
        self.buckets = buckets
        # fastText draws uniformly from -1/D to 1/D, which has this deviation.
        std = 3**-0.5 / embedding_dim
        self.embedding = TokenEmbedding(
            vocab_size, embedding_dim, pad_id=pad_id, std=std, freeze=freeze_embeddings
        )
        self.ngram_embedding: TokenEmbedding | None = None
        if ngrams > 1:
            # Row 0 stands for the runs that would go beyond their text's end.
            self.ngram_embedding = TokenEmbedding(1 + buckets, embedding_dim, std=std)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(embedding_dim, num_classes)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify texts.

        Args:
            tokens: Token ids ``(B, T)``, padded on the right.
            lengths: Tokens of each text ``(B,)``; by default the count of those that are not
                padding.

        Returns:
            Logits ``(B, num_classes)``.
        """
        tokens, lengths, mask = prepare_texts(tokens, lengths, self.pad_id)
        terms = lengths
        total = _sum_rows(self.embedding, tokens)
        if self.ngram_embedding is not None:
            rows = self.ngram_rows(tokens, mask)
            total = total + _sum_rows(self.ngram_embedding, rows)
            terms = terms + (rows != 0).sum(dim=1)
        mean = total / terms.unsqueeze(1)
        logits: Tensor = self.fc(self.dropout(mean))
        return logits

    def ngram_rows(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Rows of the n-grams' table: ``(B, T)`` to ``(B, (ngrams - 1) * T)``.

        The n-gram of n tokens that ends at a token has the bucket of its hash,
        ``h(t_1, ..., t_n) = mix(h(t_1, ..., t_{n-1}), t_n)``.

        Args:
            tokens: Token ids ``(B, T)``.
            mask: True at the tokens of a text.

        Returns:
            From 1 to ``buckets``, and 0 where a text has no such n-gram.
        """
        hashes, rows = tokens, []
        for n in range(2, self.ngrams + 1):
            # One step to the right: at position t then stand the n - 1 tokens before token t.
            hashes = hash_pair(F.pad(hashes, (1, -1)), tokens)
            ends = mask & (torch.arange(tokens.shape[1], device=tokens.device) >= n - 1)
            rows.append((1 + hashes.remainder(self.buckets)).masked_fill(~ends, 0))
        return torch.cat(rows, dim=1)


def _sum_rows(table: TokenEmbedding, rows: Tensor) -> Tensor:
    """Sum of a table's rows, padding left out: ``(B, T)`` to ``(B, D)``, without ``(B, T, D)``."""
    # torch's form for a table of indices cannot be exported for a batch of one.
    starts = torch.arange(rows.shape[0], device=rows.device) * rows.shape[1]
    return F.embedding_bag(
        rows.flatten(), table.weight, starts, mode="sum", padding_idx=table.pad_id
    )
