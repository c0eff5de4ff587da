"""Nets: plain ``torch.nn.Module`` classes that know tensors only."""

from zoo.nets.googlenet import GoogLeNet

__all__ = ["GoogLeNet"]
