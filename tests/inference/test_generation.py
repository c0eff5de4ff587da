"""Drawing tokens, and writing on from a prompt."""

import pytest
import torch

from zoo.inference.generation import choose, generate
from zoo.nets.gpt import GPT
from zoo.nets.rnn_lm import RNNLanguageModel

LOGITS = torch.tensor([0.1, 0.5, 0.2, 0.15, 0.05]).log()


def net(length: int = 12, **options) -> GPT:
    torch.manual_seed(0)
    made = GPT(20, length, embedding_dim=16, num_layers=2, num_heads=2, **options)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def draws(**options) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = [choose(LOGITS, generator=generator, **options) for _ in range(4000)]
    return torch.bincount(torch.tensor(tokens), minlength=5) / 4000


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1.0}, [0.1, 0.5, 0.2, 0.15, 0.05]),
        # p^2, normalised: 0.01, 0.25, 0.04, 0.0225, 0.0025 of 0.325
        ({"temperature": 0.5}, [0.031, 0.769, 0.123, 0.069, 0.008]),
        ({"temperature": 1.0, "top_k": 2}, [0, 5 / 7, 2 / 7, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.6}, [0, 5 / 7, 2 / 7, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.5}, [0, 1, 0, 0, 0]),
        ({"temperature": 0}, [0, 1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_by_their_probability(options, expected):
    torch.testing.assert_close(
        draws(**options), torch.tensor(expected, dtype=torch.float32), rtol=0, atol=0.03
    )


def test_greedy_writing_is_that_of_reading_all_anew():
    gpt = net()
    tokens = [3, 1, 4]
    for _ in range(9):
        tokens.append(int(gpt.eval()(torch.tensor([tokens]))[0, -1].argmax()))
    assert list(generate(gpt, [3, 1, 4], max_new_tokens=9, temperature=0)) == tokens[3:]


@pytest.mark.parametrize("layout", ["modern", "gpt2"])
def test_a_full_context_goes_on_from_its_later_half(layout):
    gpt = net(8, layout=layout)
    written = list(generate(gpt, [3, 1, 4], max_new_tokens=20, temperature=0))
    assert len(written) == 20
    # 3 + 5 tokens fill the context; the sixth is read with the four before it
    text = [3, 1, 4, *written]
    assert written[6] == int(gpt.eval()(torch.tensor([text[5:9]]))[0, -1].argmax())


def test_seed_mode_and_torchs_generator():
    gpt = net().train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = list(generate(gpt, [1], max_new_tokens=8, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert gpt.training
    assert list(generate(gpt, [1], max_new_tokens=8, seed=1)) == first
    assert list(generate(gpt, [1], max_new_tokens=8, seed=2)) != first


def test_it_ends_at_a_stop_token():
    gpt = net()
    whole = list(generate(gpt, [3, 1, 4], max_new_tokens=9, temperature=0))
    stop = whole[4]
    cut = list(generate(gpt, [3, 1, 4], max_new_tokens=9, temperature=0, stop_ids=[stop]))
    assert cut == whole[: whole.index(stop)]


def test_recurrent_nets_write_without_end():
    torch.manual_seed(0)
    rnn = RNNLanguageModel(20, embedding_dim=8, hidden_size=8)
    assert len(list(generate(rnn, [1], max_new_tokens=50))) == 50


def test_prompts_that_do_not_fit():
    with pytest.raises(ValueError, match="the prompt has 13 tokens, and the net's context ends at"):
        list(generate(net(), [1] * 13, max_new_tokens=1))
    with pytest.raises(ValueError, match="no tokens"):
        list(generate(net(), [], max_new_tokens=1))
