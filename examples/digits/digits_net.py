"""A small convolutional network for 8 by 8 images of digits, and its training: for the examples with torch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn


def network() -> nn.Sequential:
    """A batch of shape (n, 64), values from 0 to 1, becomes scores of shape (n, 10)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 128, 3, padding=1), nn.ReLU(),
        nn.Conv2d(128, 256, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256 * 16, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def main() -> None:
    """`python digits_net.py model.pt`."""
    from digits import images

    torch.manual_seed(0)
    pixels, labels, test, truth = images()
    inputs, targets = torch.tensor(pixels), torch.tensor(labels)
    model, loss = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(6):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            loss(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    right = (model(torch.tensor(test)).argmax(1) == torch.tensor(truth)).float().mean().item()
    torch.save(model.state_dict(), Path(sys.argv[1]))
    print(f"{sys.argv[1]}: right for {right:.1%} of {len(test)} images")


if __name__ == "__main__":
    main()
