"""Two models with random weights: ResNet-50 (He et al. 2015, figure 5 and table 1) for images, and a transformer
encoder of MiniLM's size (six layers of width 384) for texts. Only torch is needed.

What is measured of a model does not depend on what it has learnt, so nothing has to be downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """How large the models are: ResNet's blocks per stage, its width and its input's sides, the encoder's layers, width
    and tokens per text.
    """

    blocks: tuple[int, ...]
    channels: int
    stored_px: int
    input_px: int
    layers: int
    width: int
    tokens: int


SIZES = {
    "full": Size((3, 4, 6, 3), 64, 256, 224, 6, 384, 64),
    "tiny": Size((1, 1, 1), 8, 72, 64, 1, 64, 16),
}
_CLASSES, _VOCABULARY, _EXPANSION = 1000, 30_522, 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the 3x3 one has the stride, as in torchvision's version 1.5."""

    def __init__(self, inside: int, channels: int, stride: int) -> None:
        super().__init__()
        outside = channels * _EXPANSION
        self.body = nn.Sequential(
            *_convolution(inside, channels, 1), nn.ReLU(inplace=True),
            *_convolution(channels, channels, 3, stride), nn.ReLU(inplace=True),
            *_convolution(channels, outside, 1),
        )  # fmt: skip
        same = stride == 1 and inside == outside
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inside, outside, 1, stride))
        nn.init.constant_(self.body[-1].weight, 0.2)  # so that sums over many blocks stay within half precision

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 4 * channels, H / stride, W / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


def _convolution(inside: int, outside: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    layer = nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(outside)


def resnet(size: Size) -> nn.Module:
    """With `SIZES["full"]` ResNet-50: 25,557,032 parameters, images of 224 x 224."""
    channels = size.channels
    layers: list[nn.Module] = [*_convolution(3, channels, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inside = channels
    for stage, count in enumerate(size.blocks):
        for block in range(count):
            layers.append(Bottleneck(inside, channels * 2**stage, 2 if block == 0 and stage > 0 else 1))
            inside = channels * 2**stage * _EXPANSION
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, _CLASSES))


class Encoder(nn.Module):
    """Token numbers (N, tokens) to one vector per text (N, width): the mean over its tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.words = nn.Embedding(_VOCABULARY, size.width)
        self.places = nn.Parameter(0.02 * torch.randn(size.tokens, size.width))
        layer = nn.TransformerEncoderLayer(
            size.width, size.width // 32, 4 * size.width, activation="gelu", batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, size.layers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        return self.layers(self.words(tokens) + self.places).mean(dim=1)


class Inputs:
    """64 images (bytes, as a decoder gives them) and 64 texts in the host's memory, which requests name by number."""

    COUNT = 64

    def __init__(self, size: Size) -> None:
        self.size = size
        self.images = torch.randint(0, 256, (self.COUNT, 3, size.stored_px, size.stored_px), dtype=torch.uint8)
        self.texts = torch.randint(0, _VOCABULARY, (self.COUNT, size.tokens))

    def vision(self, numbers: list[int], device: torch.device, dtype: torch.dtype) -> Tensor:
        """Scaled on the CPU, with torch's threads, then copied and normalised on the device."""
        stored = self.images[torch.tensor(numbers) % self.COUNT].float()
        sides = (self.size.input_px, self.size.input_px)
        scaled = nn.functional.interpolate(stored, sides, mode="bilinear", antialias=False)
        on_device = scaled.to(device).to(dtype, memory_format=torch.channels_last)
        return (on_device / 255 - 0.45) / 0.225

    def encode(self, numbers: list[int], device: torch.device, _: torch.dtype) -> Tensor:
        """Token numbers, copied to the device."""
        return self.texts[torch.tensor(numbers) % self.COUNT].to(device)
