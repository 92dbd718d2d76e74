"""Stage 2 of Li et al. 2023: crops and sex to an age in months."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from baa.nets.backbone import Backbone, FeatureMap, GrayImage
from baa.nets.fusion import Fusion
from baa.nets.heads import AgeHead, AgePrediction

CONV_WIDTH = 512
"""Channels of the convolution that `conv_pool` adds."""


class Stream(nn.Module):
    """One crop to one feature vector: backbone, optionally the paper's convolution and max pool, spatial mean.

    Shapes:
        crop [B, 1, H, W] in [0, 1] -> [B, features]
    """

    def __init__(self, backbone: str, *, conv_pool: bool = False, px: int | None = None) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, px)
        self.features = CONV_WIDTH if conv_pool else self.backbone.channels
        self.conv_pool: nn.Module = nn.Identity()
        if conv_pool:
            conv = nn.Conv2d(self.backbone.channels, CONV_WIDTH, 3, padding=1)
            self.conv_pool = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2))

    def feature_map(self, crop: GrayImage) -> FeatureMap:
        """Compute the feature map [B, features, h, w] of a crop [B, 1, H, W], before the mean."""
        return self.conv_pool(self.backbone(crop))

    def forward(self, crop: GrayImage) -> Float[Tensor, "batch features"]:
        return self.feature_map(crop).mean(dim=(2, 3))


class Estimator(nn.Module):
    """Streams, fusion, age.

    Args:
        backbones: timm model names by stream: crops by region name; `whole` is the whole radiograph.
        sides: of the images of streams whose backbone has a fixed side, see `Backbone`.
        conv_pool: the streams with a convolution and a max pool after their backbone (the paper: `carpal`).
        fusion: arguments of `Fusion`.
        head: `regression` or `distribution`, see `AgeHead`.
        mean_months, std_months: of the training ages.
        hidden: width of the head's hidden layer, 0 for none.
        dropout: share of features dropped before the last layer in training.
        auxiliary: whether each stream also gives an age of its own, in `alone`. A loss on these keeps one stream from relying
            on another (Wang et al., "What makes training multi-modal classification networks hard?", CVPR 2020).

    Shapes:
        {stream: [B, 1, H, W] in [0, 1]}, sex [B] of `Sex` -> AgePrediction of [B]
    """

    def __init__(
        self,
        *,
        backbones: Mapping[str, str],
        sides: Mapping[str, int] | None = None,
        conv_pool: Sequence[str] = ("carpal",),
        fusion: Mapping[str, Any] | None = None,
        head: str = "regression",
        mean_months: float = 127.0,
        std_months: float = 41.0,
        hidden: int = 0,
        dropout: float = 0.0,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        sides = sides or {}
        streams = {
            name: Stream(backbone, conv_pool=name in conv_pool, px=sides.get(name)) for name, backbone in backbones.items()
        }
        self.streams = nn.ModuleDict(streams)
        self.fusion = Fusion({name: stream.features for name, stream in streams.items()}, **(fusion or {}))
        age = partial(AgeHead, kind=head, mean_months=mean_months, std_months=std_months, hidden=hidden, dropout=dropout)
        self.head = age(self.fusion.joined_width)
        self.alone = nn.ModuleList(age(self.fusion.width) for _ in (streams if auxiliary else ()))

    def stream(self, name: str) -> Stream:
        """Return one of the streams."""
        stream = self.streams[name]
        assert isinstance(stream, Stream)
        return stream

    def forward(self, crops: Mapping[str, Tensor], sex: Int[Tensor, " batch"]) -> AgePrediction:
        fused = self.fusion([stream(crops[name]) for name, stream in self.streams.items()], sex)
        prediction: AgePrediction = self.head(fused.joined)
        if not self.alone:
            return prediction
        own = zip(self.alone, self.fusion.alone(fused.alone, sex), strict=True)
        return prediction._replace(alone=[head(features) for head, features in own])
