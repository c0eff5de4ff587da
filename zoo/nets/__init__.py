"""Nets: plain ``torch.nn.Module`` classes that know tensors only."""

from zoo.nets.googlenet import GoogLeNet
from zoo.nets.inception_v3 import InceptionV3
from zoo.nets.mlp import MLP
from zoo.nets.resnet import ResNet

__all__ = ["MLP", "GoogLeNet", "InceptionV3", "ResNet"]
