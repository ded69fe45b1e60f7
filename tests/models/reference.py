"""The networks in PyTorch, from their descriptions, with the published layer names.

Each returns its logits and a dict of its intermediate outputs, by our layer names.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

RELU = F.relu


def conv(i, o, k, stride=1, groups=1, bias=False):
    return nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=bias)


def project(i, o, stride):
    return nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut; returns the sum before its ReLU."""

    def __init__(self, i, o, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, 3, stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o, 3), nn.BatchNorm2d(o)
        self.shortcut_name = shortcut if stride > 1 or i != o else None
        if self.shortcut_name:
            self.add_module(shortcut, project(i, o, stride))

    def forward(self, x):
        y = self.bn2(self.conv2(RELU(self.bn1(self.conv1(x)))))
        return y + (getattr(self, self.shortcut_name)(x) if self.shortcut_name else x)


class Bottleneck(nn.Module):
    def __init__(self, i, width, stride, shortcut):
        super().__init__()
        o = 4 * width
        self.conv1, self.bn1 = conv(i, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, o, 1), nn.BatchNorm2d(o)
        if stride > 1 or i != o:
            self.add_module(shortcut, project(i, o, stride))
        self.shortcut_name = shortcut if stride > 1 or i != o else None

    def forward(self, x):
        y = RELU(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(RELU(self.bn2(self.conv2(y)))))
        return y + (getattr(self, self.shortcut_name)(x) if self.shortcut_name else x)


class Net(nn.Module):
    """Global average pooling and the last layer, whose name differs."""

    last = "fc"

    def classify(self, x, outputs):
        outputs["pooled"] = x.mean((2, 3))
        return getattr(self, self.last)(outputs["pooled"]), outputs


class ResNet(Net):
    def __init__(self, stem, widths, repeats, block=Basic, large=False):
        super().__init__()
        shortcut = "shortcut" if large else "downsample"
        self.conv1, self.bn1 = conv(3, stem, 3), nn.BatchNorm2d(stem)
        i = stem
        for s, (width, n) in enumerate(zip(widths, repeats, strict=True), 1):
            blocks = []
            for b in range(n):
                blocks.append(block(i, width, 2 if s > 1 and b == 0 else 1, shortcut))
                i = 4 * width if block is Bottleneck else width
            self.add_module(f"layer{s}", nn.ModuleList(blocks))
        self.stages = len(widths)
        self.last = "linear" if large else "fc"
        self.add_module(self.last, nn.Linear(i, 100))

    def forward(self, x):
        x = RELU(self.bn1(self.conv1(x)))
        outputs = {"stem": x}
        for s in range(1, self.stages + 1):
            for block in getattr(self, f"layer{s}"):
                before = block(x)
                x = RELU(before)
            outputs |= {f"stage{s}_preact": before, f"stage{s}": x}
        return self.classify(x, outputs)


class WideBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), conv(i, o, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), conv(o, o, 3)
        self.convShortcut = conv(i, o, 1, stride) if i != o else None

    def forward(self, x):
        active = RELU(self.bn1(x))
        y = self.conv2(RELU(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class WideStage(nn.Module):
    def __init__(self, i, o, stride, n):
        super().__init__()
        blocks = [WideBlock(i, o, stride), *(WideBlock(o, o, 1) for _ in range(n - 1))]
        self.layer = nn.Sequential(*blocks)


class WideResNet(Net):
    def __init__(self, depth, factor):
        super().__init__()
        n = (depth - 4) // 6
        self.conv1 = conv(3, 16, 3)
        self.block1 = WideStage(16, 16 * factor, 1, n)
        self.block2 = WideStage(16 * factor, 32 * factor, 2, n)
        self.block3 = WideStage(32 * factor, 64 * factor, 2, n)
        self.bn1 = nn.BatchNorm2d(64 * factor)
        self.fc = nn.Linear(64 * factor, 100)

    def forward(self, x):
        outputs = {"stem": self.conv1(x)}
        outputs["stage1"] = self.block1.layer(outputs["stem"])
        outputs["stage2"] = self.block2.layer(outputs["stage1"])
        outputs["stage3"] = self.block3.layer(outputs["stage2"])
        outputs["stage1_preact"] = self.block2.layer[0].bn1(outputs["stage1"])
        outputs["stage2_preact"] = self.block3.layer[0].bn1(outputs["stage2"])
        outputs["stage3_preact"] = self.bn1(outputs["stage3"])
        return self.classify(RELU(outputs["stage3_preact"]), outputs)


class VGG(Net):
    last = "classifier"

    def __init__(self, repeats):
        super().__init__()
        i = 3
        for g, (o, n) in enumerate(zip((64, 128, 256, 512, 512), repeats, strict=True)):
            blocks = []
            for _ in range(n):
                blocks += [conv(i, o, 3, bias=True), nn.BatchNorm2d(o), nn.ReLU()]
                i = o
            self.add_module(f"block{g}", nn.Sequential(*blocks[:-1]))
        self.classifier = nn.Linear(512, 100)

    def forward(self, x):
        outputs, side = {}, x.shape[-1]
        for s in range(1, 6):
            before = getattr(self, f"block{s - 1}")(x)
            x = RELU(before)
            outputs |= {f"stage{s}_preact": before, f"stage{s}": x}
            if s < 4 or s == 4 and side == 64:
                x = F.max_pool2d(x, 2)
        return self.classify(x, outputs)


class Inverted(nn.Module):
    def __init__(self, i, o, stride, expansion):
        super().__init__()
        h = i * expansion
        self.conv = nn.Sequential(
            *(conv(i, h, 1), nn.BatchNorm2d(h), nn.ReLU()),
            *(conv(h, h, 3, stride, groups=h), nn.BatchNorm2d(h), nn.ReLU()),
            *(conv(h, o, 1), nn.BatchNorm2d(o)),
        )
        self.has_shortcut = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class MobileNetV2(Net):
    last = "classifier"
    # Expansion, full width, repeats, first stride.
    groups = (
        *((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks, i = nn.ModuleList(), 16
        for expansion, width, n, stride in self.groups:
            blocks = []
            for b in range(n):
                blocks.append(Inverted(i, width // 2, 1 if b else stride, expansion))
                i = width // 2
            self.blocks.append(nn.Sequential(*blocks))
        self.conv2 = nn.Sequential(conv(160, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(1280, 100))

    def forward(self, x):
        x = self.conv1(x)
        outputs = {"stem": x}
        for g, group in enumerate(self.blocks, 1):
            x = group(x)
            if g in (2, 3, 5, 7):
                outputs[f"stage{(2, 3, 5, 7).index(g) + 1}"] = x
        return self.classify(self.conv2(x), outputs)


def channel_shuffle(x, g):
    n, c, h, w = x.shape
    return x.reshape(n, g, c // g, h, w).transpose(1, 2).reshape(n, c, h, w)


class Grouped(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        o = o - i if stride == 2 else o
        mid, self.g = int(o / 4), 1 if i == 24 else 3
        self.conv1, self.bn1 = conv(i, mid, 1, groups=self.g), nn.BatchNorm2d(mid)
        self.conv2 = conv(mid, mid, 3, stride, groups=mid)
        self.bn2 = nn.BatchNorm2d(mid)
        self.conv3, self.bn3 = conv(mid, o, 1, groups=3), nn.BatchNorm2d(o)
        self.stride = stride

    def forward(self, x):
        y = channel_shuffle(RELU(self.bn1(self.conv1(x))), self.g)
        y = self.bn3(self.conv3(RELU(self.bn2(self.conv2(y)))))
        if self.stride == 1:
            return y + x
        return torch.cat([y, F.avg_pool2d(x, 3, 2, 1, count_include_pad=True)], 1)


class Shuffle(Net):
    """Stem and stages of ShuffleNet V1 and V2."""

    last = "linear"

    def __init__(self, block, stages, features):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 24, 1), nn.BatchNorm2d(24)
        i = 24
        for s, (width, n) in enumerate(stages, 1):
            blocks = [
                block(i, width, 2),
                *(block(width, width, 1) for _ in range(n - 1)),
            ]
            self.add_module(f"layer{s}", nn.Sequential(*blocks))
            i = width
        self.linear = nn.Linear(features, 100)


class ShuffleV1(Shuffle):
    def __init__(self):
        super().__init__(Grouped, ((240, 4), (480, 8), (960, 4)), 960)

    def forward(self, x):
        x = RELU(self.bn1(self.conv1(x)))
        outputs = {"stem": x}
        for s in (1, 2, 3):
            for block in getattr(self, f"layer{s}"):
                before = block(x)
                x = RELU(before)
            outputs |= {f"stage{s}_preact": before, f"stage{s}": x}
        return self.classify(x, outputs)


class Halves(nn.Module):
    """Returns the shuffled output, and both halves before the last ReLU."""

    def __init__(self, i, width, stride):
        super().__init__()
        c, self.stride = width // 2, stride
        if stride == 2:
            sizes = [(i, i, 3), (i, c, 1), (i, c, 1), (c, c, 3), (c, c, 1)]
        else:
            sizes = [(c, c, 1), (c, c, 3), (c, c, 1)]
        for n, (a, b, k) in enumerate(sizes, 1):
            groups, s = (a, stride) if k == 3 else (1, 1)
            self.add_module(f"conv{n}", conv(a, b, k, s, groups=groups))
            self.add_module(f"bn{n}", nn.BatchNorm2d(b))

    def conv_norm(self, n, x):
        return getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(x))

    def forward(self, x):
        if self.stride == 2:
            first = RELU(self.conv_norm(2, self.conv_norm(1, x)))
            before = self.conv_norm(5, self.conv_norm(4, RELU(self.conv_norm(3, x))))
        else:
            first, x = x.chunk(2, 1)
            before = self.conv_norm(3, self.conv_norm(2, RELU(self.conv_norm(1, x))))
        out = channel_shuffle(torch.cat([first, RELU(before)], 1), 2)
        return out, torch.cat([first, before], 1)


class ShuffleV2(Shuffle):
    def __init__(self):
        super().__init__(Halves, ((116, 4), (232, 8), (464, 4)), 1024)
        self.conv2, self.bn2 = conv(464, 1024, 1), nn.BatchNorm2d(1024)

    def forward(self, x):
        x = RELU(self.bn1(self.conv1(x)))
        outputs = {"stem": x}
        for s in (1, 2, 3):
            for block in getattr(self, f"layer{s}"):
                x, before = block(x)
            outputs |= {f"stage{s}_preact": before, f"stage{s}": x}
        return self.classify(RELU(self.bn2(self.conv2(x))), outputs)


THIN, WIDE = (16, 32, 64), (64, 128, 256)
LARGE = (64, 128, 256, 512)
NETWORKS = {
    **{
        f"resnet{depth}": partial(ResNet, 16, THIN, (n,) * 3)
        for depth, n in ((8, 1), (14, 2), (20, 3), (32, 5), (44, 7), (56, 9), (110, 18))
    },
    "resnet8x4": partial(ResNet, 32, WIDE, (1, 1, 1)),
    "resnet32x4": partial(ResNet, 32, WIDE, (5, 5, 5)),
    "resnet18": partial(ResNet, 64, LARGE, (2, 2, 2, 2), large=True),
    "resnet50": partial(ResNet, 64, LARGE, (3, 4, 6, 3), Bottleneck, large=True),
    "wrn_16_1": partial(WideResNet, 16, 1),
    "wrn_16_2": partial(WideResNet, 16, 2),
    "wrn_40_1": partial(WideResNet, 40, 1),
    "wrn_40_2": partial(WideResNet, 40, 2),
    "vgg8": partial(VGG, (1, 1, 1, 1, 1)),
    "vgg11": partial(VGG, (1, 1, 2, 2, 2)),
    "vgg13": partial(VGG, (2, 2, 2, 2, 2)),
    "vgg16": partial(VGG, (2, 2, 3, 3, 3)),
    "vgg19": partial(VGG, (2, 2, 4, 4, 4)),
    "mobilenetv2": MobileNetV2,
    "shufflev1": ShuffleV1,
    "shufflev2": ShuffleV2,
}


def build(name, seed=0):
    """A network in inference mode, without any default initial value.

    Kernels preserve the scale of activations, which PyTorch's defaults shrink.
    """
    torch.manual_seed(seed)
    network = NETWORKS[name]().eval()
    for key, value in network.state_dict().items():
        if value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif value.ndim == 1:
            value.normal_(1.0 if key.endswith("weight") else 0.0, 0.2)
    return network
