"""A small class-conditional image generator: rectified flow with a U-Net.

It exists for one purpose: drawing the bundled sample images, because no CIFAR-10 image may be
shipped. The program itself never imports it.

Method: rectified flow (Liu et al. 2022, arXiv 2209.03003): x_t = (1 - t) noise + t image, and the
network predicts the velocity image - noise. Times are logit-normal (Esser et al. 2024), labels are
dropped for classifier-free guidance (Ho & Salimans 2022), and the network works on the image
folded to 16x16x12 because on a CPU few wide convolutions are far cheaper than many thin ones.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10
NO_LABEL = CLASSES  # index of the "label dropped" embedding


@dataclasses.dataclass(frozen=True)
class FlowRecipe:
    """Everything that decides the result, in one place; it is stored beside the samples."""

    width: int = 96  # channels at 16x16
    deep_width: int = 192  # channels at 8x8
    blocks: int = 2  # residual blocks at each end of the 16x16 stage
    deep_blocks: int = 3  # residual blocks at 8x8, the last two with attention
    batch: int = 128
    learning_rate: float = 2e-3  # Muon for matrices, a quarter of it Adam for the rest
    warmup: int = 200  # steps
    label_drop: float = 0.1
    ema_half_life: float = 2000.0  # steps
    seed: int = 0


class RMSNorm2d(nn.Module):
    """Root-mean-square norm over channels; GroupNorm is several times slower on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        power = x.float().square().mean(1, keepdim=True)
        return x * (torch.rsqrt(power + 1e-6)).to(x.dtype) * self.scale.to(x.dtype)


class Conv(nn.Module):
    """A convolution whose weight is stored as a matrix, so that Muon can treat it as one."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, zero: bool = False) -> None:
        super().__init__()
        self.shape = (outputs, inputs, size, size)
        fan_in = inputs * size * size
        self.weight = nn.Parameter(torch.zeros(outputs, fan_in) if zero else torch.randn(outputs, fan_in) / fan_in**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.view(self.shape), self.bias, padding=self.shape[2] // 2)


class Block(nn.Module):
    """Pre-norm residual block; the condition shifts and scales between its two convolutions."""

    def __init__(self, channels: int, condition: int, attention: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm2d(channels), RMSNorm2d(channels)
        self.conv1, self.conv2 = Conv(channels, channels), Conv(channels, channels, zero=True)
        self.modulate = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.attention = Attention(channels) if attention else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        x = x + h
        return x if self.attention is None else self.attention(x)


class Attention(nn.Module):
    """Self-attention over the 64 positions of the 8x8 stage, heads of 64 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm2d(channels)
        self.qkv = Conv(channels, 3 * channels, size=1)
        self.out = Conv(channels, channels, size=1, zero=True)
        self.heads = channels // 64

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, 64, h * w).transpose(3, 4)
        q, k, v = qkv.unbind(1)
        q, k = F.normalize(q, dim=-1) * 8, F.normalize(k, dim=-1) * 8  # bounded logits: bf16 stays stable
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(n, c, h, w))


class FlowNet(nn.Module):
    """Velocity field: (image at time t, t, label) -> velocity, all (N, 3, 32, 32) in about [-1, 1]."""

    def __init__(self, recipe: FlowRecipe) -> None:
        super().__init__()
        width, deep, condition = recipe.width, recipe.deep_width, 256
        self.time = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.label = nn.Embedding(CLASSES + 1, condition)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(200), 32)))
        self.enter = Conv(12, width)
        self.down = nn.ModuleList(Block(width, condition) for _ in range(recipe.blocks))
        self.shrink = Conv(4 * width, deep, size=1)
        self.deep = nn.ModuleList(
            Block(deep, condition, attention=i >= recipe.deep_blocks - 2) for i in range(recipe.deep_blocks)
        )
        self.grow = Conv(deep, 4 * width, size=1)
        self.join = Conv(2 * width, width, size=1)
        self.up = nn.ModuleList(Block(width, condition) for _ in range(recipe.blocks))
        self.norm = RMSNorm2d(width)
        self.leave = Conv(width, 12, zero=True)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        angle = t[:, None] * self.frequencies
        condition = F.silu(self.time(torch.cat([angle.sin(), angle.cos()], 1)) + self.label(label))
        h = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        for block in self.down:
            h = block(h, condition)
        skip = h
        h = self.shrink(F.pixel_unshuffle(h, 2))
        for block in self.deep:
            h = block(h, condition)
        h = self.join(torch.cat([F.pixel_shuffle(self.grow(h), 2), skip], 1))
        for block in self.up:
            h = block(h, condition)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(h))), 2)


def flow_loss(net: Callable[..., Tensor], images: Tensor, labels: Tensor, recipe: FlowRecipe) -> Tensor:
    """Mean squared velocity error of one batch; `images` float in [-1, 1], `labels` int64."""
    noise = torch.randn_like(images)
    t = torch.sigmoid(torch.randn(len(images), device=images.device))
    labels = torch.where(torch.rand(len(labels), device=labels.device) < recipe.label_drop, NO_LABEL, labels)
    mixed = torch.lerp(noise, images, t[:, None, None, None])
    return F.mse_loss(net(mixed, t, labels).float(), images - noise)


def optimizers(net: FlowNet, recipe: FlowRecipe) -> list[torch.optim.Optimizer]:
    """Muon on the hidden matrices, Adam on embeddings, gains, biases, first and last layer."""
    edge = {id(p) for m in (net.enter, net.leave, net.label, net.time) for p in m.parameters()}
    matrices = [p for p in net.parameters() if p.ndim == 2 and id(p) not in edge]
    chosen = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    muon = torch.optim.Muon(
        matrices, lr=recipe.learning_rate, weight_decay=0.01, ns_steps=4, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.Adam(rest, lr=recipe.learning_rate / 4, betas=(0.9, 0.99))]


@torch.inference_mode()
def draw(
    net: Callable[..., Tensor],
    labels: Tensor,
    generator: torch.Generator,
    steps: int = 24,
    guidance: float = 2.0,
) -> Tensor:
    """Draw one image per label with Heun's method; returns uint8 (N, 3, 32, 32).

    `guidance` extrapolates from the unconditional to the conditional velocity; 1 is none.
    """
    x = torch.randn(len(labels), 3, 32, 32, generator=generator)
    times = torch.linspace(0, 1, steps + 1)
    nothing = torch.full_like(labels, NO_LABEL)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        both = net(torch.cat([x, x]), t.expand(2 * len(x)), torch.cat([labels, nothing])).float()
        conditional, unconditional = both.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    for i in range(steps):
        width = times[i + 1] - times[i]
        first = velocity(x, times[i])
        euler = x + width * first
        x = euler if i == steps - 1 else x + width * (first + velocity(euler, times[i + 1])) / 2
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class Ema:
    """Exponential moving average of the weights: what is sampled from."""

    def __init__(self, net: FlowNet, half_life: float) -> None:
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, net: FlowNet, step: int) -> None:
        # A young average forgets faster, so that early samples are not dominated by the start.
        half_life = min(self.half_life, max(1.0, step / 4))
        weight = 1 - 0.5 ** (1 / half_life)
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), weight)
