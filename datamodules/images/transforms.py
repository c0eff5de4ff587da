"""Random transforms of torchvision, sample by sample, without a state."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from datamodules.core.errors import refuse
from datamodules.core.randomness import bits

# The draw of a sample's random bits that seeds torch for it.
_SEED = 48


class SeededTransforms:
    """Transforms of ``torchvision.transforms.v2``, whose draws are a function of the sample.

    They draw from torch's own generator, which is seeded for each sample by (seed, epoch, index)
    and put back after the batch. An image passes them alone, so that each gets choices of its own:
    this takes longer than what is computed for a batch at once.

    Args:
        transforms: In their order.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        self.transforms = list(transforms)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.transforms)

    def apply(
        self, image: Tensor, mask: Tensor | None, index: Tensor, *, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Transform images, and their masks alike where transforms move pixels.

        Args:
            image: Uint8, or floats from 0 to 255, which are rounded first, (B, C, H, W).
            mask: Uint8 (B, H, W), or None.
            index: The samples' numbers, int64 (B,).
            seed: The run's seed.
            epoch: The epoch, from 0.

        Raises:
            OptionError: If a transform changes the images' size or type.
        """
        from torchvision import tv_tensors

        if image.dtype != torch.uint8:
            image = image.round().to(torch.uint8)
        seeds = bits(seed, epoch, index, _SEED + 1)[:, _SEED].tolist()
        devices = [image.device] if image.device.type == "cuda" else []
        images, masks = [], []
        with torch.random.fork_rng(devices=devices):
            for number, each in enumerate(seeds):
                torch.manual_seed(each)
                sample = [tv_tensors.Image(image[number])]
                sample += [] if mask is None else [tv_tensors.Mask(mask[number])]
                moved = self._pass(sample)
                self._check(moved[0], image)
                images.append(moved[0].as_subclass(Tensor))
                masks += [part.as_subclass(Tensor) for part in moved[1:]]
        stacked = torch.stack(images).contiguous(memory_format=torch.channels_last)
        return stacked, None if mask is None else torch.stack(masks)

    def _pass(self, sample: list[Tensor]) -> list[Tensor]:
        for transform in self.transforms:
            given = transform(*sample)
            sample = list(given) if isinstance(given, tuple | list) else [given]
        return sample

    def _check(self, moved: Tensor, batch: Tensor) -> None:
        if moved.shape == batch.shape[1:] and moved.dtype == torch.uint8:
            return
        shapes = ["x".join(map(str, shape)) for shape in (moved.shape, batch.shape[1:])]
        names = ", ".join(type(transform).__name__ for transform in self.transforms)
        raise refuse(
            "transform",
            names,
            f"it makes {moved.dtype} of {shapes[0]} of an image: give transforms that keep uint8 "
            f"of {shapes[1]}, as images are brought to their size before and normalised after",
        )


def policy_of(name: str | None) -> list[nn.Module]:
    """Return torchvision's transform that draws from a list of others, by its name.

    Args:
        name: ``randaugment`` (arXiv 1909.13719, two operations of magnitude 9), ``trivialaugment``
            (arXiv 2103.10158, one of any magnitude), or None.
    """
    if name is None:
        return []
    from torchvision.transforms import v2

    known: dict[str, Callable[[], nn.Module]] = {
        "randaugment": v2.RandAugment,
        "trivialaugment": v2.TrivialAugmentWide,
    }
    if name not in known:
        raise refuse("policy", name, f"give {' or '.join(known)}, or leave it out")
    return [known[name]()]
