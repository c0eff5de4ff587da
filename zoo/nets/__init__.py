"""Nets: plain ``torch.nn.Module`` classes that know tensors only."""

from zoo.nets.bag import BagOfEmbeddings
from zoo.nets.googlenet import GoogLeNet
from zoo.nets.gpt import GPT
from zoo.nets.inception_v3 import InceptionV3
from zoo.nets.mlp import MLP
from zoo.nets.pretrained.causal_lm import PretrainedCausalLM
from zoo.nets.pretrained.encoder import PretrainedEncoder
from zoo.nets.resnet import ResNet
from zoo.nets.rnn import RNNClassifier
from zoo.nets.rnn_lm import RNNLanguageModel
from zoo.nets.text_cnn import TextCNN
from zoo.nets.transformer import TransformerClassifier
from zoo.nets.unet import UNet

__all__ = [
    "GPT",
    "MLP",
    "BagOfEmbeddings",
    "GoogLeNet",
    "InceptionV3",
    "PretrainedCausalLM",
    "PretrainedEncoder",
    "RNNClassifier",
    "RNNLanguageModel",
    "ResNet",
    "TextCNN",
    "TransformerClassifier",
    "UNet",
]
