"""Stage 2 of Li et al. 2023: crops and sex to an age in months."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor, nn

from baa.nets.backbone import Backbone, FeatureMap, GreyImage
from baa.nets.fusion import Exchange, SexGate, Streams
from baa.nets.heads import AgeHead, AgePrediction

CONV_WIDTH = 512
"""Channels of the convolution that `conv_pool` adds."""


class Stream(nn.Module):
    """One crop to one feature vector: a backbone, the paper's convolution and max pool if asked for, the mean.

    Shapes:
        crop [B, 1, H, W] in [0, 1] -> [B, features]
    """

    def __init__(self, backbone: str, *, conv_pool: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(backbone)
        self.features = CONV_WIDTH if conv_pool else self.backbone.channels
        self.conv_pool: nn.Module = nn.Identity()
        if conv_pool:
            conv = nn.Conv2d(self.backbone.channels, CONV_WIDTH, 3, padding=1)
            self.conv_pool = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))

    def feature_map(self, crop: GreyImage) -> FeatureMap:
        return self.conv_pool(self.backbone(crop))

    def forward(self, crop: GreyImage) -> Tensor:
        return self.feature_map(crop).mean(dim=(2, 3))


class Estimator(nn.Module):
    """Streams, exchange, the sex, weighted concatenation, age.

    Args:
        backbones: timm model names by stream: `carpal` and `hand` are the crops, `whole` is the radiograph.
        conv_pool: the streams that get a convolution and a max pool after their backbone (the paper: `carpal`).
        width: the streams' common width.
        exchange_mode, exchange, exchange_learnt: see `Exchange`.
        stream_weights, weights_learnt: each stream's factor in the concatenation, and whether these are parameters.
        sex_at: where the sex comes in, any of `projected` (each stream before the exchange), `fused`
            (after it, eq. 3) and `joined` (all streams once concatenated); nowhere for an age that does not know the sex.
        alpha_image, alpha_sex, alpha_learnt: see `SexGate`.
        head: `regression` or `distribution`, see `AgeHead`.
        mean_months, std_months: of the training ages.
        hidden: width of the head's hidden layer, 0 for none.
        dropout: share of features dropped before the last layer in training.
        auxiliary: whether each stream also answers alone, in training: a loss on that keeps one stream from resting on another
            (Wang et al., "What makes training multi-modal classification networks hard?", CVPR 2020).

    Shapes:
        {stream: [B, 1, H, W] in [0, 1]}, sex [B] -> AgePrediction of [B]
    """

    def __init__(
        self,
        *,
        backbones: Mapping[str, str],
        conv_pool: Sequence[str] = ("carpal",),
        width: int = 512,
        exchange_mode: str = "whole",
        exchange: float = 1.0,
        exchange_learnt: bool = False,
        stream_weights: Mapping[str, float] | None = None,
        weights_learnt: bool = False,
        sex_at: Sequence[str] = ("fused",),
        alpha_image: float = 1.0,
        alpha_sex: float = 1.0,
        alpha_learnt: bool = True,
        head: str = "regression",
        mean_months: float = 127.0,
        std_months: float = 41.0,
        hidden: int = 0,
        dropout: float = 0.0,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        streams = {name: Stream(backbone, conv_pool=name in conv_pool) for name, backbone in backbones.items()}
        widths = [stream.features for stream in streams.values()]
        self.streams = nn.ModuleDict(streams)
        self.exchange = Exchange(widths, width, mode=exchange_mode, exchange=exchange, learnt=exchange_learnt)
        weights = [(stream_weights or {}).get(name, 1.0) for name in streams]
        self.weights = nn.Parameter(torch.tensor(weights), requires_grad=weights_learnt)
        gate = partial(SexGate, alpha_image=alpha_image, alpha_sex=alpha_sex, learnt=alpha_learnt)
        self.gates = nn.ModuleDict(
            {
                place: nn.ModuleList([gate(width * len(widths))] if place == "joined" else [gate(width) for _ in widths])
                for place in sex_at
            }
        )
        answer = partial(AgeHead, kind=head, mean_months=mean_months, std_months=std_months, hidden=hidden, dropout=dropout)
        self.head = answer(width * len(widths))
        self.alone = nn.ModuleList(answer(width) for _ in (widths if auxiliary else ()))

    def stream(self, name: str) -> Stream:
        """One of the streams."""
        stream = self.streams[name]
        assert isinstance(stream, Stream)
        return stream

    def forward(self, crops: Mapping[str, Tensor], sex: Int[Tensor, " batch"]) -> AgePrediction:
        projected = self.exchange.projected([stream(crops[name]) for name, stream in self.streams.items()])
        projected = self._gated("projected", projected, sex)
        fused = self._gated("fused", self.exchange(projected), sex) * self.weights[:, None, None]
        joined = fused.transpose(0, 1).flatten(1)  # B stream*width
        prediction: AgePrediction = self.head(self._gated("joined", joined[None], sex)[0])
        if not (self.alone and self.training):
            return prediction
        own = zip(self.alone, self._gated("fused", projected.relu(), sex), strict=True)
        return prediction._replace(alone=[head(features) for head, features in own])

    def _gated(self, place: str, streams: Streams, sex: Tensor) -> Streams:
        if place not in self.gates:
            return streams
        gates = self.gates[place]
        assert isinstance(gates, nn.ModuleList)
        return torch.stack([gate(features, sex) for gate, features in zip(gates, streams, strict=True)])

    def learnt_weights(self) -> dict[str, Tensor]:
        """What the fusion has settled on: each fusion weight that is learnt, and the share of channels that are exchanged."""
        learnt: dict[str, Tensor] = {}
        names = list(self.streams)
        if self.exchange.weight.requires_grad:
            learnt["exchange"] = self.exchange.share()
        if self.exchange.mode == "channel":
            learnt["exchanged_share"] = self.exchange.empty().float().mean() * len(names)
        if self.weights.requires_grad:
            learnt |= {f"weight_{name}": weight for name, weight in zip(names, self.weights, strict=True)}
        for place, gates in self.gates.items():
            assert isinstance(gates, nn.ModuleList)
            for name, gate in zip(["all"] if place == "joined" else names, gates, strict=True):
                assert isinstance(gate, SexGate)
                if gate.alpha.requires_grad:
                    learnt |= {f"alpha_{what}_{place}_{name}": a for what, a in zip(("image", "sex"), gate.alpha, strict=True)}
        return {name: weight.detach() for name, weight in learnt.items()}
