"""A small class-conditional image generator: two rectified flows with U-Nets, coarse image first.

It exists for one purpose: drawing the bundled sample images, because no CIFAR-10 image may be
shipped. The program itself never imports it.

Method: rectified flow (Liu et al. 2022, arXiv 2209.03003): x_t = (1 - t) noise + t data, and a
network predicts the velocity data - noise. Times are logit-normal (Esser et al. 2024); what it is
told of the image (label, description) is dropped now and then for classifier-free guidance (Ho &
Salimans 2022).

What costs time on a CPU is the number of positions a convolution visits, and what makes a picture
recognisable is in its coarse half. So an image is split by one Haar step (Guth et al. 2022, arXiv
2208.05003): the means of 2x2 pixels, 16x16x3, are drawn by the flow "base"; what is missing to
32x32, nine bands of 16x16, by the flow "detail", which is shown the means. "base" is told the label
and a description (`descriptions.py`), "detail" the label.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ciad_engine import compute

CLASSES = 10
NO_LABEL = CLASSES  # index of the "label dropped" embedding
DETAIL_BANDS = 9  # horizontal, vertical and diagonal difference of three colours


@dataclasses.dataclass(frozen=True)
class FlowRecipe:
    """Everything that decides one of the two flows, in one place; it is stored beside the samples."""

    fold: int  # the network works on squares of fold x fold positions put into channels
    inputs: int  # channels before folding
    outputs: int
    width: int  # channels after folding
    deep_width: int  # channels at half that resolution
    blocks: int  # residual blocks at each end of the upper stage
    deep_blocks: int  # residual blocks of the lower stage, the last two with attention
    batch: int
    steps: int
    description: int = 0  # numbers in the description it is told; 0: none
    shares: tuple[float, ...] = (0.1,) * CLASSES  # of the training images it is shown, by class
    learning_rate: float = 2e-3  # Muon for matrices, a quarter of it Adam for the rest
    warmup: int = 200  # steps
    decay: float = 0.4  # the rate falls linearly to zero over this last part of the steps
    drop: float = 0.1  # how often it is told nothing
    ema_half_life: float = 500.0  # steps
    seed: int = 0


# The last training, of cats. Of the other classes the samples come from one of all classes alike and 8,000 steps:
# the samples' card keeps the recipe of each (`made`).
RECIPES = {
    "base": FlowRecipe(fold=2, inputs=3, outputs=3, width=96, deep_width=192, blocks=2, deep_blocks=3,
                       batch=128, steps=4_500, description=64,
                       # Mostly cats, which the training before drew worst; three other animals keep it general.
                       shares=(0, 0, 0.15, 0.55, 0.15, 0.15, 0, 0, 0, 0)),
    "detail": FlowRecipe(fold=1, inputs=DETAIL_BANDS + 3, outputs=DETAIL_BANDS, width=64, deep_width=128, blocks=1,
                         deep_blocks=2, batch=128, steps=700, decay=0.33),
}  # fmt: skip
MEAN_SCALE = 2.0  # pixel means in [-1, 1] have a standard deviation of about a half
DETAIL_SCALE = (12.0, 11.0, 30.0)  # the same for the bands: horizontal, vertical, diagonal
BLUR = 0.06  # noise on the means shown to "detail": those it is shown later are drawn, not real


def split(images: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (N, 3, 32, 32) -> means (N, 3, 16, 16) and details (N, 9, 16, 16), of about unit variance."""
    n = len(images)
    a, b, c, d = F.pixel_unshuffle(images.float() / 127.5 - 1, 2).view(n, 3, 4, 16, 16).unbind(2)
    bands = [(a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4]
    details = torch.cat([band * scale for band, scale in zip(bands, DETAIL_SCALE, strict=True)], 1)
    return (a + b + c + d) / 4 * MEAN_SCALE, details


def join(means: Tensor, details: Tensor) -> Tensor:
    """The inverse of `split`, rounded: uint8 (N, 3, 32, 32)."""
    m = means / MEAN_SCALE
    h, v, d = (band / scale for band, scale in zip(details.split(3, 1), DETAIL_SCALE, strict=True))
    pixels = torch.stack([m + h + v + d, m - h + v - d, m + h - v - d, m - h - v + d], 2)
    return ((F.pixel_shuffle(pixels.flatten(1, 2), 2) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


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
    """Self-attention over all positions of the lower stage, heads of 64 channels."""

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
    """Velocity field: (data at time t, t, label, description) -> velocity, (N, inputs, H, W) -> (N, outputs, H, W)."""

    def __init__(self, recipe: FlowRecipe) -> None:
        super().__init__()
        width, deep, condition = recipe.width, recipe.deep_width, 256
        self.fold = recipe.fold
        self.time = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.label = nn.Embedding(CLASSES + 1, condition)
        self.describe = nn.Linear(recipe.description, condition, bias=False) if recipe.description else None
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(200), 32)))
        self.enter = Conv(recipe.inputs * recipe.fold**2, width)
        self.down = nn.ModuleList(Block(width, condition) for _ in range(recipe.blocks))
        self.shrink = Conv(4 * width, deep, size=1)
        self.deep = nn.ModuleList(
            Block(deep, condition, attention=i >= recipe.deep_blocks - 2) for i in range(recipe.deep_blocks)
        )
        self.grow = Conv(deep, 4 * width, size=1)
        self.join = Conv(2 * width, width, size=1)
        self.up = nn.ModuleList(Block(width, condition) for _ in range(recipe.blocks))
        self.norm = RMSNorm2d(width)
        self.leave = Conv(width, recipe.outputs * recipe.fold**2, zero=True)

    def forward(self, x: Tensor, t: Tensor, label: Tensor, description: Tensor | None = None) -> Tensor:
        angle = t[:, None] * self.frequencies
        condition = self.time(torch.cat([angle.sin(), angle.cos()], 1)) + self.label(label)
        if self.describe is not None:
            condition = condition + self.describe(description)
        condition = F.silu(condition)
        h = self.enter(F.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last))
        for block in self.down:
            h = block(h, condition)
        skip = h
        h = self.shrink(F.pixel_unshuffle(h, 2))
        for block in self.deep:
            h = block(h, condition)
        h = self.join(torch.cat([F.pixel_shuffle(self.grow(h), 2), skip], 1))
        for block in self.up:
            h = block(h, condition)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(h))), self.fold)


Velocity = Callable[..., Tensor]  # a FlowNet, compiled or not


def flow_loss(net: Velocity, images: Tensor, labels: Tensor, description: Tensor | None, recipe: FlowRecipe) -> Tensor:
    """Mean squared velocity error of one batch; `images` uint8 (N, 3, 32, 32), `labels` int64 (N,)."""
    means, details = split(images)
    data = means if recipe.outputs == means.shape[1] else details
    noise = torch.randn_like(data)
    t = torch.sigmoid(torch.randn(len(data)))
    dropped = torch.rand(len(labels)) < recipe.drop
    labels = torch.where(dropped, NO_LABEL, labels)
    if description is not None:
        description = torch.where(dropped[:, None], 0, description)
    mixed = torch.lerp(noise, data, t[:, None, None, None])
    if data is details:
        mixed = torch.cat([mixed, means + BLUR * torch.randn_like(means)], 1)
    return F.mse_loss(net(mixed, t, labels, description).float(), data - noise)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal by Newton and Schulz's iteration (Jordan 2024), for matrices only.

    As `torch.optim.Muon`, but in bfloat16 only where the processor computes it natively: others are
    a hundred times slower at that than in float32.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, weight_decay: float = 0.01, iterations: int = 4) -> None:
        super().__init__(params, {"lr": lr})
        self.weight_decay, self.iterations = weight_decay, iterations
        self.kind = torch.bfloat16 if compute.native_bfloat16() else torch.float32

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                update = p.grad.lerp(momentum, 0.95)
                wide = update if p.shape[0] <= p.shape[1] else update.T
                wide = (wide / (wide.norm() + 1e-7)).to(self.kind)
                for _ in range(self.iterations):
                    square = wide @ wide.T
                    wide = 3.4445 * wide + (-4.7750 * square + 2.0315 * square @ square) @ wide
                rate = group["lr"] * 0.2 * max(p.shape) ** 0.5  # the root mean square of an Adam step
                p.mul_(1 - group["lr"] * self.weight_decay)
                p.add_((wide if wide.shape == p.shape else wide.T).to(p.dtype), alpha=-rate)


def optimizers(net: FlowNet, recipe: FlowRecipe) -> list[torch.optim.Optimizer]:
    """Muon on the hidden matrices, Adam on embeddings, gains, biases, first and last layer."""
    ends = [m for m in (net.enter, net.leave, net.label, net.describe, net.time) if m is not None]
    edge = {id(p) for m in ends for p in m.parameters()}
    matrices = [p for p in net.parameters() if p.ndim == 2 and id(p) not in edge]
    chosen = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    muon = Muon(matrices, lr=recipe.learning_rate)
    return [muon, torch.optim.Adam(rest, lr=recipe.learning_rate / 4, betas=(0.9, 0.99), fused=True)]


@torch.inference_mode()
def draw(
    base: Velocity,
    detail: Velocity,
    labels: Tensor,
    descriptions: Tensor,
    generator: torch.Generator,
    steps: int,
    guidance: float,
) -> Tensor:
    """Draw one image per label (int64 (N,)) and description; returns uint8 (N, 3, 32, 32).

    `guidance` extrapolates the base from the unconditional to the conditional velocity; 1 is none.
    """
    n = len(labels)
    told = torch.cat([labels, torch.full_like(labels, NO_LABEL)])
    described = torch.cat([descriptions, torch.zeros_like(descriptions)])

    def guided(x: Tensor, t: Tensor) -> Tensor:
        conditional, unconditional = base(torch.cat([x, x]), t.expand(2 * n), told, described).float().chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    means = integrate(guided, torch.randn(n, 3, 16, 16, generator=generator), steps)
    shown = means + BLUR * torch.randn(means.shape, generator=generator)
    start = torch.randn(n, DETAIL_BANDS, 16, 16, generator=generator)
    details = integrate(lambda x, t: detail(torch.cat([x, shown], 1), t.expand(n), labels).float(), start, steps)
    return join(means, details)


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, steps: int) -> Tensor:
    """From noise at t = 0 to data at t = 1 by Heun's method, the last step by Euler's."""
    times = torch.linspace(0, 1, steps + 1)
    for i in range(steps):
        width = times[i + 1] - times[i]
        first = velocity(x, times[i])
        euler = x + width * first
        x = euler if i == steps - 1 else x + width * (first + velocity(euler, times[i + 1])) / 2
    return x


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
