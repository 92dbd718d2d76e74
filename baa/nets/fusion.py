"""Middle fusion: image streams exchange features, then each weighs them against the sex.

Exchange: Li et al. 2023 exchange features "as a whole"; Wang et al., "Deep Multimodal Fusion by Channel Exchanging",
NeurIPS 2020, https://arxiv.org/abs/2011.05005, exchange the channels whose batch-norm scale has shrunk to nothing.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baa.patient import Sex

Streams = Float[Tensor, "stream batch width"]

NORM_MOMENTUM = 0.02
"""Of the projections' batch norm: pooled features follow the age, and the mean of ten small batches is months off."""

KNOWN = (Sex.FEMALE, Sex.MALE)

NEGLIGIBLE_SCALE = 1e-2
"""A batch-norm scale from which on down a channel counts as empty, as in Wang et al.'s released configuration."""


class Exchange(nn.Module):
    """Project each stream to a common width and let them exchange features.

    With one stream there is nothing to exchange, and only the projection is left. With more than two, "the other" is
    the mean of the others.

    Of two streams, e and 1 - e mirror each other: the same features, in each other's place. So what is fitted on the paper's
    exchange (e = 1) can be nothing that concatenation could not be; from e = 0.5 on, a place holds more of the other stream
    than of the one it is named after.

    Args:
        features: width of each stream's features.
        width: the common width.
        mode: `whole`: x~ = (1 - e) P(x) + e P(other), all channels alike. `channel`: each stream owns a share of the
            channels; where one of its own has shrunk to nothing, the other's takes its place. `none`: neither.
        exchange: e in [0, 1] of `whole`; 0 is plain concatenation, 1 the paper's exchange.
        learnt: e is a parameter, started there.

    Shapes:
        list of S [B, features_s] -> projected [S, B, width] -> exchanged [S, B, width]
    """

    own: Tensor

    def __init__(
        self, features: list[int], width: int, *, mode: str = "whole", exchange: float = 1.0, learnt: bool = False
    ) -> None:
        super().__init__()
        self.mode = mode if len(features) > 1 else "none"
        self.project = nn.ModuleList(nn.Linear(n, width, bias=False) for n in features)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, momentum=NORM_MOMENTUM) for _ in features)
        self.weight = nn.Parameter(torch.tensor(exchange), requires_grad=learnt and self.mode == "whole")
        owner = torch.arange(width) * len(features) // width
        self.register_buffer("own", owner == torch.arange(len(features))[:, None], persistent=False)  # S width

    def projected(self, streams: list[Tensor]) -> Streams:
        """P(x) of each stream, before any exchange."""
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
        """e; one that learns is set back where a step has left [0, 1]: `clamp` is flat there, in torch 2.14 also at 0 and 1."""
        if not (self.training and self.weight.requires_grad):
            return self.weight.clamp(0, 1)
        with torch.no_grad():
            self.weight.clamp_(0, 1)
        return self.weight

    def empty(self) -> Bool[Tensor, "stream width"]:
        """The channels that a stream owns and has let shrink to nothing."""
        return (self._scales() < NEGLIGIBLE_SCALE) & self.own

    def _scales(self) -> Float[Tensor, "stream width"]:
        return torch.stack([norm.weight.abs() for norm in self.norms if isinstance(norm, _BatchNorm)])

    def sparsity(self) -> Float[Tensor, ""]:
        """The L1 norm of the scales that each stream owns, the penalty that empties channels (Wang et al., eq. 3)."""
        return (self._scales() * self.own).sum()


class SexGate(nn.Module):
    """Weigh image features against sex features, eq. 3 of Li et al. 2023.

    x~ = alpha_D x_D + alpha_G x_G, with x_G a linear encoding of the sex. An unknown sex lies halfway between the others, and
    by a learnt offset beside: a network that was trained on known sexes alone can be asked about an unknown one too.

    Args:
        features: width D of the image features.
        alpha_image, alpha_sex: starting weights.
        learnt: whether they are parameters.

    Shapes:
        image [B, D], sex [B] of `Sex` -> [B, D]
    """

    def __init__(self, features: int, *, alpha_image: float = 1.0, alpha_sex: float = 1.0, learnt: bool = True) -> None:
        super().__init__()
        self.known = nn.Embedding(len(KNOWN), features)
        self.unknown = nn.Parameter(torch.zeros(features))
        self.alpha = nn.Parameter(torch.tensor([alpha_image, alpha_sex]), requires_grad=learnt)

    def forward(self, image: Float[Tensor, "batch width"], sex: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        known = self.known.weight
        encoding = torch.cat([known, (known.mean(dim=0) + self.unknown)[None]])  # in the order of `Sex`
        return self.alpha[0] * image + self.alpha[1] * encoding[sex]
