import torch

from zoo.metrics.collectors import MostWrong


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(20, 4, generator=generator).mul(2).softmax(1),
            torch.randint(4, (20,), generator=generator),
            torch.arange(20.0).view(20, 1, 1, 1) + 100 * number,
        )
        for number in range(count)
    ]


def test_most_wrong_are_the_surest_mistakes_of_all_batches() -> None:
    metric = MostWrong(keep=5)
    for batch in batches():
        metric.update(*batch)
    result = metric.compute()
    probabilities, labels, images = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    confidence, prediction = probabilities.max(1)
    confidence[prediction == labels] = -1
    top = confidence.topk(5).indices
    assert torch.equal(result["probability"], confidence[top])
    assert torch.equal(result["label"], labels[top])
    assert torch.equal(result["prediction"], prediction[top])
    assert torch.equal(result["image"], images[top])


def test_no_mistake_gives_nothing() -> None:
    metric = MostWrong(keep=5)
    metric.update(torch.eye(4), torch.arange(4), torch.zeros(4, 1, 2, 2))
    assert len(metric.compute()["label"]) == 0


def test_of_several_labels_each_sample_has_its_surest_mistake() -> None:
    metric = MostWrong(keep=5)
    probabilities = torch.tensor([[0.9, 0.25, 0.5], [0.9, 0.1, 0.2], [0.75, 0.875, 0.1]])
    labels = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 1, 1]])
    metric.update(probabilities, labels, torch.arange(3))
    found = metric.compute()
    assert found["image"].tolist() == [0, 2]
    assert found["prediction"].tolist() == [0, 2]  # the label that it is about
    assert found["label"].tolist() == [0, 1]  # whether it is there
    torch.testing.assert_close(found["probability"], torch.tensor([0.9, 0.9]))
