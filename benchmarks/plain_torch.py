"""The networks and the training step of step_time.py in plain PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = _conv(in_channels, channels, stride)
        self.conv2 = _conv(channels, channels)
        self.shortcut = nn.Identity()
        if in_channels != channels:
            self.shortcut = _conv(in_channels, channels, stride, kernel=1)

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.conv2(F.relu(self.conv1(x))))


def _conv(in_channels, channels, stride=1, kernel=3):
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    )


def resnet(depth):
    """`models.get(f"resnet{depth}")`, for inputs `(batch, 3, 32, 32)`."""
    modules, in_channels = [_conv(3, 16), nn.ReLU()], 16
    for stage in range(3):
        for block in range((depth - 2) // 6):
            channels = 16 * 2**stage
            modules.append(
                Block(in_channels, channels, 2 if stage > 0 and block == 0 else 1)
            )
            in_channels = channels
    modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, 100)]
    return nn.Sequential(*modules)


class Step:
    """A hand-written distillation step: cross-entropy, T²·KL, SGD, two logged means.

    Args:
        depths: Depths of teacher and student.
        lr: Learning rate.
        compiled: Whether the forward passes with the loss go through `torch.compile`,
            which compiles their backward pass too.
        precision: `"float32"`, or `"bfloat16"` under autocast.
        temperature: T.
    """

    def __init__(
        self, depths, lr, compiled=False, precision="float32", temperature=4.0
    ):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.teacher, self.student = (resnet(depth).to(self.device) for depth in depths)
        self.teacher.eval()
        self.student.train()
        self.temperature = temperature
        self.half = precision == "bfloat16"
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr, momentum=0.9)
        self.loss = torch.compile(self._loss) if compiled else self._loss

    def _loss(self, x, y):
        t = self.temperature
        with torch.no_grad():
            soft_targets = F.log_softmax(self.teacher(x) / t, dim=-1)
        logits = self.student(x)
        kl = F.kl_div(
            F.log_softmax(logits / t, dim=-1),
            soft_targets,
            log_target=True,
            reduction="batchmean",
        )
        loss = 0.5 * F.cross_entropy(logits, y) + 0.5 * t * t * kl
        return loss, (logits.argmax(-1) == y).float().mean()

    def epoch(self, x, y, batch):
        """One pass over shuffled NumPy arrays, in whole batches.

        Returns:
            Mean loss and accuracy.
        """
        order = np.random.permutation(len(x))
        sums = torch.zeros(2, device=self.device)
        steps = len(x) // batch
        for step in range(steps):
            indices = order[step * batch : (step + 1) * batch]
            # A view: the memory stays channels-last, which is fast for convolutions.
            images = torch.from_numpy(x[indices]).to(self.device).permute(0, 3, 1, 2)
            labels = torch.from_numpy(y[indices]).to(self.device).long()
            self.optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss, accuracy = self.loss(images, labels)
            loss.backward()
            self.optimizer.step()
            sums += torch.stack([loss.detach(), accuracy])
        return (sums / steps).tolist()
