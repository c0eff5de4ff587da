"""What a text classifier adds: word vectors, learning rates by depth."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from datamodules import TextClassification
from zoo import BagOfEmbeddings, RNNClassifier, TextClassifier
from zoo.errors import UserError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextClassification:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    rows = [
        f"{word} film {k},{label}" for k in range(30) for word, label in (("good", 1), ("bad", 0))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]))
    path = str(tmp_path / "t.csv")
    return TextClassification(path, tokenizer="word", vocab_size=50, val_fraction=0.2, batch_size=8)


def test_vectors_fill_the_embedding_before_training(trainer, data, tmp_path, capsys):
    (tmp_path / "v.txt").write_text("good 1 2 3 4\nbad -1 -2 -3 -4\nelse 9 9 9 9\n")
    net = RNNClassifier(data.vocab_size, 2, embedding_dim=4, hidden_size=3)
    task = TextClassifier(net, vectors=str(tmp_path / "v.txt"), lr=0.0, weight_decay=0.0)
    trainer(limit_train_batches=1).fit(task, data)
    number = data.text_tokenizer.vocabulary()
    assert net.embedding.weight[number["good"]].tolist() == [1, 2, 3, 4]
    assert net.embedding.weight[number["bad"]].tolist() == [-1, -2, -3, -4]
    assert "of the vocabulary" in capsys.readouterr().out


def test_vectors_of_another_dimension(trainer, data, tmp_path):
    (tmp_path / "v.txt").write_text("good 1 2 3\nbad -1 -2 -3\n")
    net = RNNClassifier(data.vocab_size, 2, embedding_dim=4, hidden_size=3)
    with pytest.raises(UserError, match=r"model.vectors is .*3 numbers.*embedding_dim 4"):
        trainer().fit(TextClassifier(net, vectors=str(tmp_path / "v.txt")), data)


class Deep(nn.Module):
    """Two layers and a head that say how deep they are."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Embedding(9, 4), nn.Linear(4, 4)
        self.fc = nn.Linear(4, 2)

    def layer_depths(self) -> dict[str, int]:
        return {"first": 0, "second": 1, "fc": 2}

    def forward(self, tokens, lengths=None):
        return self.fc(self.second(self.first(tokens).mean(1)))


def test_layers_learn_the_more_slowly_the_deeper_they_lie():
    factors = TextClassifier(Deep(), layer_lr_decay=0.5).lr_factors()
    assert {name.split(".")[0]: factor for name, factor in factors.items()} == {
        "first": 0.25,
        "second": 0.5,
        "fc": 1.0,
    }
    both = TextClassifier(Deep(), layer_lr_decay=0.5, backbone_lr_factor=0.1).lr_factors()
    assert both["first.weight"] == pytest.approx(0.025)
    assert both["fc.weight"] == 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer_lr_decay": 0.0}, "layer_lr_decay is 0.0"),
        ({"layer_lr_decay": 0.5}, "does not say how deep its layers are"),
    ],
)
def test_options_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said):
        TextClassifier(BagOfEmbeddings(9, 2), **options)


def test_several_labels_a_text(trainer, tmp_path, monkeypatch):
    """Figures of each class and their mean are scikit-learn's; mistakes are kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    rows = [
        f"{'good ' * (k % 2)}{'long ' * (k % 3 == 0)}film {k},{k % 2},{int(k % 3 == 0)}"
        for k in range(60)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["text,good,long", *rows]))
    data = TextClassification(
        str(tmp_path / "t.csv"), tokenizer="word", test_fraction=0.3, batch_size=8
    )
    task = TextClassifier(BagOfEmbeddings(data.vocab_size, 2), label_kind=data.label_kind, lr=0.01)
    fitted = trainer(max_epochs=2)
    fitted.fit(task, data)
    (figures,) = fitted.test(task, data, verbose=False)
    kept = task.test_artifacts["classes"]
    truth = torch.stack([torch.tensor([n % 2, int(n % 3 == 0)]) for n in kept["index"].tolist()])
    assert kept["label"].tolist() == truth.tolist()
    probabilities, _ = task.test_artifacts["roc"]
    found = probabilities > 0.5
    each = f1_score(truth, found, average=None, zero_division=float("nan"))
    assert figures["test/f1"] == pytest.approx(np.nanmean(each))
    hits, predicted, true = task.test_artifacts["labels"]
    assert (2 * hits / (predicted + true)).tolist() == pytest.approx(each, nan_ok=True)
    wrong = task.test_artifacts["wrong_texts"]
    mistaken = {
        n
        for n, right in zip(kept["index"].tolist(), found == truth, strict=True)
        if not right.all()
    }
    assert set(wrong["image"].reshape(-1).tolist()) == mistaken


def test_texts_of_one_batch_do_not_change_each_others_logits(trainer, data):
    torch.manual_seed(0)
    task = TextClassifier(RNNClassifier(data.vocab_size, 2, embedding_dim=4, hidden_size=3)).eval()
    data.setup("test")
    (batch, *_) = data.test_dataloader()
    together = task(*task.inputs(batch))
    for k in range(len(batch.lengths)):
        alone = task(batch.tokens[k : k + 1, : batch.lengths[k]], batch.lengths[k : k + 1])
        torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=0)
