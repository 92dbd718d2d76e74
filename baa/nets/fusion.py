"""Middle fusion: image streams exchange features, then each is weighted against sex.

Li et al. 2023 exchange features "as a whole". Wang et al., "Deep Multimodal Fusion by Channel Exchanging", NeurIPS 2020,
https://arxiv.org/abs/2011.05005, exchange the channels whose batch norm scale has shrunk to nothing.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from baa.patient import Sex

Streams = Float[Tensor, "stream batch width"]

NORM_MOMENTUM = 0.02
"""Least share of a batch in the statistics of `PatientNorm`."""

KNOWN = (Sex.FEMALE, Sex.MALE)

NEGLIGIBLE_SCALE = 1e-2
"""A batch norm scale below which a channel counts as empty, as in Wang et al.'s released configuration."""


class PatientNorm(nn.BatchNorm1d):
    """Batch norm whose statistics are the mean over the first batches, then a moving average of many.

    Batch n has a share of 1 / n in them, and never less than `momentum`. Pooled features follow the age: with a large
    `momentum` the statistics would be those of the last ages, with a small one alone they would long be those of the start.

    Shapes:
        [B, width] -> [B, width]
    """

    def forward(self, input: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)  # of the batch
        normal = F.batch_norm(input, mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
        self.num_batches_tracked += 1
        share = self.num_batches_tracked.reciprocal().clamp(min=self.momentum)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
        return normal


class Exchange(nn.Module):
    """Project each stream to a common width, then let the streams exchange features.

    One stream is only projected. With more than two streams, "the other" is the mean of the others. With two streams, e and
    1 - e give the same features in each other's place, so the paper's exchange (e = 1) is concatenation in another order.

    Args:
        features: width of each stream's features.
        width: the common width.
        mode: `whole`: x~ = (1 - e) P(x) + e P(other), all channels alike. `channel`: each stream owns a share of the
            channels; where one of its own has shrunk to nothing, the other's takes its place. `none`: no exchange.
        exchange: e in [0, 1] of `whole`; 0 is plain concatenation, 1 the paper's exchange.
        learned: whether e is a parameter.

    Shapes:
        list of S [B, features_s] -> projected [S, B, width] -> exchanged [S, B, width]
    """

    own: Tensor

    def __init__(
        self, features: list[int], width: int, *, mode: str = "whole", exchange: float = 1.0, learned: bool = False
    ) -> None:
        super().__init__()
        self.mode = mode if len(features) > 1 else "none"
        self.project = nn.ModuleList(nn.Linear(n, width, bias=False) for n in features)
        self.norms = nn.ModuleList(PatientNorm(width, momentum=NORM_MOMENTUM) for _ in features)
        self.weight = nn.Parameter(torch.tensor(exchange), requires_grad=learned and self.mode == "whole")
        owner = torch.arange(width) * len(features) // width
        self.register_buffer("own", owner == torch.arange(len(features))[:, None], persistent=False)  # S width

    def projected(self, streams: list[Tensor]) -> Streams:
        """Compute P(x) of each stream, before any exchange.

        Shapes:
            list of S [B, features_s] -> [S, B, width]
        """
        return torch.stack([norm(project(s)) for norm, project, s in zip(self.norms, self.project, streams, strict=True)])

    def forward(self, x: Streams) -> Streams:
        if self.mode == "none":
            return x.relu()
        other = (x.sum(dim=0) - x) / (len(x) - 1)
        if self.mode == "whole":
            e = self.share()
            return ((1 - e) * x + e * other).relu()
        return torch.where(self.empty()[:, None], other, x).relu()

    def share(self) -> Float[Tensor, ""]:
        """Return e, a scalar []. A trained e is clamped to [0, 1] in place: `clamp` has no gradient at or beyond 0 and 1."""
        if not (self.training and self.weight.requires_grad):
            return self.weight.clamp(0, 1)
        with torch.no_grad():
            self.weight.clamp_(0, 1)
        return self.weight

    def empty(self) -> Bool[Tensor, "stream width"]:
        """Mark the channels that a stream owns and that have shrunk to nothing: bool [S, width]."""
        return (self._scales() < NEGLIGIBLE_SCALE) & self.own

    def _scales(self) -> Float[Tensor, "stream width"]:
        return torch.stack([norm.weight.abs() for norm in self.norms if isinstance(norm, _BatchNorm)])

    def sparsity(self) -> Float[Tensor, ""]:
        """Compute the L1 norm [] of the scales that each stream owns. As a penalty it empties channels (Wang et al., eq. 3)."""
        return (self._scales() * self.own).sum()


class SexGate(nn.Module):
    """Weigh image features against sex features, eq. 3 of Li et al. 2023.

    x~ = alpha_D x_D + alpha_G x_G, with x_G a linear encoding of sex. An unknown sex is the mean of both encodings plus a
    learned offset, so that a network trained on known sexes alone also accepts an unknown one.

    Args:
        features: width D of the image features.
        alpha_image, alpha_sex: initial weights.
        learned: whether they are parameters.

    Shapes:
        image [B, D], sex [B] of `Sex` -> [B, D]
    """

    def __init__(self, features: int, *, alpha_image: float = 1.0, alpha_sex: float = 1.0, learned: bool = True) -> None:
        super().__init__()
        self.known = nn.Embedding(len(KNOWN), features)
        self.unknown = nn.Parameter(torch.zeros(features))
        self.alpha = nn.Parameter(torch.tensor([alpha_image, alpha_sex]), requires_grad=learned)

    def forward(self, image: Float[Tensor, "batch width"], sex: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        known = self.known.weight
        encoding = torch.cat([known, (known.mean(dim=0) + self.unknown)[None]])  # in the order of `Sex`
        return self.alpha[0] * image + self.alpha[1] * encoding[sex]


class Fused(NamedTuple):
    """The output of `Fusion`.

    Args:
        joined: features of all streams [B, S * width].
        alone: each stream's own features before the exchange [S, B, width].
    """

    joined: Tensor
    alone: Tensor


class Fusion(nn.Module):
    """Exchange, sex gates, stream weights, concatenation.

    Args:
        features: width of each stream's features, by name.
        width, mode, exchange, exchange_learned: see `Exchange`.
        sparsity: weight of the penalty that empties channels, for `channel` mode.
        weights: factor of each stream in the concatenation; streams without one have 1.
        weights_learned: whether these are parameters.
        sex_at: where sex is added, any of `projected` (each stream before the exchange), `fused` (after it, eq. 3) and
            `joined` (all streams concatenated); empty for an age that ignores sex.
        alpha_image, alpha_sex, alpha_learned: see `SexGate`.

    Shapes:
        S streams [B, features_s], sex [B] of `Sex` -> Fused of B
    """

    def __init__(
        self,
        features: Mapping[str, int],
        *,
        width: int = 512,
        mode: str = "whole",
        exchange: float = 1.0,
        exchange_learned: bool = False,
        sparsity: float = 1e-3,
        weights: Mapping[str, float] | None = None,
        weights_learned: bool = False,
        sex_at: Sequence[str] = ("fused",),
        alpha_image: float = 1.0,
        alpha_sex: float = 1.0,
        alpha_learned: bool = True,
    ) -> None:
        super().__init__()
        self.names = list(features)
        self.width = width
        self.sparsity = sparsity
        self.exchange = Exchange(list(features.values()), width, mode=mode, exchange=exchange, learned=exchange_learned)
        factors = torch.tensor([(weights or {}).get(name, 1.0) for name in features])
        self.weights = nn.Parameter(factors, requires_grad=weights_learned)
        gate = partial(SexGate, alpha_image=alpha_image, alpha_sex=alpha_sex, learned=alpha_learned)
        self.gates = nn.ModuleDict(
            {
                place: nn.ModuleList([gate(self.joined_width)] if place == "joined" else [gate(width) for _ in features])
                for place in sex_at
            }
        )

    @property
    def joined_width(self) -> int:
        """Width of the joined features."""
        return self.width * len(self.names)

    def forward(self, streams: Sequence[Tensor], sex: Int[Tensor, " batch"]) -> Fused:
        projected = self._add_sex("projected", self.exchange.projected(list(streams)), sex)
        fused = self._add_sex("fused", self.exchange(projected), sex) * self.weights[:, None, None]
        joined = fused.transpose(0, 1).flatten(1)  # B stream*width
        return Fused(self._add_sex("joined", joined[None], sex)[0], projected)

    def alone(self, projected: Streams, sex: Int[Tensor, " batch"]) -> Streams:
        """Give each stream's own features the form that fused ones have: ReLU, and sex added.

        Shapes:
            projected [S, B, width], sex [B] of `Sex` -> [S, B, width]
        """
        return self._add_sex("fused", projected.relu(), sex)

    def penalty(self) -> Tensor | float:
        """Return the penalty [] that the training loss adds to empty channels; 0.0 outside `channel` mode."""
        return self.sparsity * self.exchange.sparsity() if self.exchange.mode == "channel" else 0.0

    def _add_sex(self, place: str, streams: Streams, sex: Tensor) -> Streams:
        if place not in self.gates:
            return streams
        gates = self.gates[place]
        assert isinstance(gates, nn.ModuleList)
        return torch.stack([gate(features, sex) for gate, features in zip(gates, streams, strict=True)])

    def learned_weights(self) -> dict[str, Tensor]:
        """Return each fusion weight [] that is trained, by name, and the share [] of channels that are exchanged."""
        learned: dict[str, Tensor] = {}
        if self.exchange.weight.requires_grad:
            learned["exchange"] = self.exchange.share()
        if self.exchange.mode == "channel":
            learned["exchanged_share"] = self.exchange.empty().float().mean() * len(self.names)
        if self.weights.requires_grad:
            learned |= {f"weight_{name}": weight for name, weight in zip(self.names, self.weights, strict=True)}
        for place, gates in self.gates.items():
            assert isinstance(gates, nn.ModuleList)
            for name, gate in zip(["all"] if place == "joined" else self.names, gates, strict=True):
                assert isinstance(gate, SexGate)
                if gate.alpha.requires_grad:
                    alphas = zip(("image", "sex"), gate.alpha, strict=True)
                    learned |= {f"alpha_{kind}_{place}_{name}": alpha for kind, alpha in alphas}
        return {name: weight.detach() for name, weight in learned.items()}
