"""A trained net with all that is around it: what prepares its inputs, and what its logits mean."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datamodules.core.arrays import ArrayData
from datamodules.core.errors import DataError, at_least, blamed
from datamodules.core.inputs import described
from datamodules.core.protocols import HasClassNames, sample_numbers
from zoo.errors import UserError
from zoo.inference.generation import Writing, fitted, pieces
from zoo.inference.outputs import Answers
from zoo.model.batches import moved
from zoo.model.results import KINDS, Result, TextResult, kind_of, results_of
from zoo.nets.protocols import LimitsLength
from zoo.run.precision import computing_in, weights_type

if TYPE_CHECKING:  # which brings Lightning
    from lightning.pytorch import Callback, LightningModule


class Model:
    """A trained net that takes images, texts, rows or prompts, and gives typed results.

    Args:
        net: The net with its weights; it is brought to the device, and to evaluation mode.
        data: What prepares inputs; None where that is not known.
        answers: What is made of logits, or how the net writes on; or the task, whose
            ``predict_step`` answers.
        device: Where it computes.
        precision: In which precision, by the name that Lightning gives it.
        name: The task's name.
        make_task: Gives the LightningModule around the net.
        seed: Of what a language model draws.
        callbacks: Lightning's, which a Trainer calls at predictions.
    """

    def __init__(
        self,
        net: nn.Module,
        data: Any,
        answers: Answers | Writing | LightningModule,
        *,
        device: torch.device,
        precision: str = "32-true",
        name: str = "",
        make_task: Callable[[], LightningModule] | None = None,
        seed: int = 0,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.device, self.precision, self.seed = device, precision, seed
        self.callbacks = callbacks
        self.answers = answers
        self.data = data
        self.name = name
        self._make_task = make_task
        self._task: LightningModule | None = None
        whole = net if isinstance(answers, Answers | Writing) else answers
        is_text = isinstance(answers, Writing)
        self.dtype = torch.float32 if is_text else weights_type(precision)
        whole.to(device)
        if self.dtype != torch.float32:
            whole.to(self.dtype)
        whole.eval()
        #: The plain ``torch.nn.Module``, on the device, in evaluation mode.
        self.net = net

    def __repr__(self) -> str:
        """Return what the model is, in a line."""
        parameters = sum(parameter.numel() for parameter in self.net.parameters())
        words = [f"{type(self.net).__name__} of {parameters:,} parameters", self.name]
        words += self.data.words() if isinstance(self.data, ArrayData) else []
        return f"Model({', '.join(filter(None, words))}, on {self.device})"

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of the net's outputs, if there are any."""
        return list(self.data.class_names) if isinstance(self.data, HasClassNames) else []

    @property
    def task(self) -> LightningModule:
        """The task around the net, as a Trainer takes it; it is built when it is asked for."""
        if self._task is None:
            if not isinstance(self.answers, Answers | Writing):
                self._task = self.answers
            elif self._make_task is not None:
                self._task = self._make_task()
            else:
                raise AttributeError("this model was made without a task")
        return self._task

    def __call__(self, inputs: Any, batch_size: int | None = None) -> Result | list[Result]:
        """Return what the net answers.

        Args:
            inputs: What ``zoo predict`` takes, a path or a text, or what Python has: an image of
                PIL or an array, uint8 or floats from 0 to 1; a mapping of columns to values or a
                row; a prompt or the messages of a chat; or a list or a folder of any of these.
            batch_size: How many are computed at once; that of the training by default. Images to
                be segmented keep their size, and are computed one by one.

        Returns:
            A result of one input; a list of results of a list, an array of several images, a frame,
            a file of rows or a folder, however many inputs these hold.

        Raises:
            UserError: If there is no input, or one cannot be taken.
        """
        data, is_one = self._inputs().of(inputs)
        if isinstance(self.answers, Writing):
            found: list[Result] = [
                TextResult("".join(self._write(data, prompt)), name)
                for prompt, name in zip(data.prompts, data.names, strict=True)
            ]
        else:
            if batch_size is not None and getattr(data, "label_kind", "") != "mask":
                data.batch_size = at_least("batch_size", batch_size, 1)
            found = list(self._results(data))
        return found[0] if is_one else found

    def stream(self, prompt: Any) -> Iterator[str]:
        """Return what a language model writes, piece by piece as it comes.

        Args:
            prompt: A text, or the messages of a chat so far.

        Raises:
            UserError: If the model does not write, or the prompt cannot be taken.
        """
        if not isinstance(self.answers, Writing):
            raise UserError(f"{self!r} writes no texts; call it with its inputs")
        data, is_one = self._inputs().of(prompt)
        if not is_one:
            raise DataError("one prompt is streamed at a time; give a text, or a chat's messages")
        return self._write(data, data.prompts[0])

    @property
    def writes(self) -> bool:
        """Whether it is a language model, which writes on from prompts."""
        return isinstance(self.answers, Writing)

    def _inputs(self) -> Any:
        if self.data is None:
            raise UserError(
                "the checkpoint does not say how inputs are prepared, as it was trained on loaders "
                "of its own; call model.net on tensors as these give them"
            )
        return self.data

    # ---------------------------------------------------------------- answers

    def needs_trainer(self, data: Any) -> bool:
        """Return whether a Trainer predicts: for its callbacks, or hooks of a foreign task or data.

        Args:
            data: What prepares what is predicted.
        """
        ours = isinstance(self.answers, Answers) and type(data).__module__.startswith("datamodules")
        return bool(self.callbacks) or not ours

    def batches(self, data: Any, limit: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield what is predicted, batch by batch, as the task's ``predict_step`` gives it.

        Args:
            data: Has ``predict_dataloader``, and prepares its batches.
            limit: How many batches are taken at most, or as a float which share of them.

        Raises:
            UserError: If it is nothing that a result is made of.
        """
        if self.needs_trainer(data):
            from zoo.model.by_trainer import predict_by_trainer

            for predicted in predict_by_trainer(
                self.task,
                data,
                device=self.device,
                precision=self.precision,
                limit=limit,
                callbacks=self.callbacks,
            ):
                self._check_predicted(predicted)
                yield predicted
            return
        loader = data.predict_dataloader()
        most = int(limit * len(loader)) if isinstance(limit, float) else limit
        for batch in islice(loader, most):
            yield self._answer(data, batch)

    def _check_predicted(self, predicted: Any) -> None:
        if not isinstance(predicted, Mapping) or not set(KINDS) & set(predicted):
            raise UserError(
                f"{self.name}.predict_step gives {described(predicted)}; give a dictionary with "
                "'probabilities' (B, C), 'prediction' (B,) or 'masks', a list of (H, W)"
            )

    @torch.inference_mode()
    def _answer(self, data: Any, batch: Any) -> dict[str, Any]:
        assert isinstance(self.answers, Answers)
        batch = self._prepared(data, batch)
        with computing_in(self.precision, self.device.type):
            predicted = self.answers.predict(self.net, batch)
            numbers = sample_numbers(batch)
            if numbers is not None:
                predicted["index"] = numbers
        # What is kept of all batches stays out of the device's memory.
        answered: dict[str, Any] = moved(predicted, torch.device("cpu"))
        return answered

    def _prepared(self, data: Any, batch: Any) -> Any:
        """Return a batch on the device, prepared there, in the type of the weights."""
        batch = data.on_after_batch_transfer(moved(batch, self.device), 0)
        return batch if self.dtype == torch.float32 else moved(batch, self.device, self.dtype)

    def _results(self, data: Any) -> Iterator[Result]:
        first = 0
        for predicted in self.batches(data):
            broken = getattr(data, "broken", {})
            if broken:
                raise DataError(broken[min(broken)])
            kind = kind_of(predicted)
            values = predicted[kind]
            names = data.names[first : first + len(values)]
            first += len(values)
            yield from results_of(kind, values, names, data)

    # ---------------------------------------------------------------- writing

    def tokens_of(self, data: Any, prompt: Any) -> list[int]:
        """Return the tokens that a net goes on from, of a chat those of :meth:`remembered`.

        Args:
            data: What prepares prompts.
            prompt: A text, or messages.
        """
        asked = prompt if isinstance(prompt, str) else self.remembered(data, prompt)
        tokens: list[int] = data.encode_prompt(asked)
        return tokens

    def remembered(self, data: Any, messages: Sequence[Any]) -> list[Any]:
        """Return a chat's messages without the oldest, where its net could not read them all.

        What it reads and what it writes fit its context together, or, of a net without one, the
        longest row of its training. The system's message is kept, and the last.

        Args:
            data: What prepares prompts.
            messages: The chat so far.
        """
        assert isinstance(self.answers, Writing)
        own = self.net.max_length if isinstance(self.net, LimitsLength) else None
        longest: int = own or data.max_length
        most = longest - min(self.answers.sample_tokens, longest // 2)
        kept = list(messages)
        first = int(kept[0]["role"] == "system")
        while len(kept) - first >= 3 and len(data.encode_prompt(kept)) > most:
            del kept[first : first + 2]  # a message and its answer
        return kept

    def write(self, tokens: Sequence[int], stop_ids: Sequence[int]) -> Iterator[int]:
        """Return the tokens that follow some, up to one of ``stop_ids``.

        Raises:
            UserError: If there are none to go on from.
        """
        assert isinstance(self.answers, Writing)
        try:
            return self.answers.write(self.net, tokens, stop_ids=stop_ids, seed=self.seed)
        except ValueError as error:
            raise blamed("inputs", error) from error

    def _write(self, data: Any, prompt: Any) -> Iterator[str]:
        tokens = self.tokens_of(data, prompt)
        for said in (
            cut(len(tokens), len(fitted(self.net, tokens))),
            unseen(tokens, data.pad_id),
        ):
            if said is not None:
                warnings.warn(said, stacklevel=3)
        return pieces(self.write(tokens, data.stop_ids), data.decode)


def cut(count: int, read: int) -> str | None:
    """Return how much of a prompt is not read, in words; None if all is."""
    if read == count:
        return None
    return (
        f"the prompt has {count:,} tokens and the net's context {read:,}: its first "
        f"{count - read:,} are left out"
    )


def unseen(tokens: Sequence[int], pad_id: int) -> str | None:
    """Return how many tokens of a prompt stand for what training never saw; None if none does.

    Args:
        tokens: The prompt's.
        pad_id: What pads rows; a vocabulary of characters or words has it for the unknown, too.
    """
    count = sum(token == pad_id for token in tokens)
    if not count:
        return None
    return f"{count:,} of the prompt's {len(tokens):,} tokens are not in the net's vocabulary"
