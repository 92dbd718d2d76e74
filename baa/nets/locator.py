"""Stage 1 of Li et al. 2023: whole radiograph to age, with a feature map for Grad-CAM.

CBAM is Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, https://arxiv.org/abs/1807.06521, from timm.
timm and the authors' released code add batch norm to the spatial convolution. The paper does not; `cbam_norm` does.
"""

from typing import Any

from timm.layers.cbam import CbamModule
from torch import nn

from baa.nets.backbone import Backbone, FeatureMap, GrayImage
from baa.nets.heads import AgeHead, AgePrediction

SPATIAL_KERNEL = 7


class PooledAgeHead(nn.Module):
    """Global average pool, then an `AgeHead`: the part that Grad-CAM differentiates.

    Shapes:
        feature map [B, C, h, w] -> AgePrediction of [B]
    """

    def __init__(self, age: AgeHead) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.age = age

    def forward(self, features: FeatureMap) -> AgePrediction:
        return self.age(self.pool(features).flatten(1))


def cbam(channels: int, *, spatial_norm: bool = False) -> nn.Module:
    """Build channel attention, then spatial attention (eq. 1 and 2), [B, C, h, w] -> [B, C, h, w]."""
    block: Any = CbamModule(channels, spatial_kernel_size=SPATIAL_KERNEL)
    if not spatial_norm:
        block.spatial.conv = nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2)
    return block


class Locator(nn.Module):
    """Backbone, CBAM, global average pool, age. It is not given the sex: it serves to locate regions.

    With an auxiliary stride a second head reads the age from a middle layer, and the age is the mean of both. Middle layers
    then keep evidence in its place (deep supervision, Lee et al., AISTATS 2015, https://arxiv.org/abs/1409.5185).

    Args:
        backbone: a timm model name.
        px: side of its square view.
        attention: `cbam`, `cbam_norm` (spatial convolution batch-normalized) or `none`.
        head: `regression` or `distribution`, see `AgeHead`.
        mean_months, std_months: of the training ages.
        auxiliary_stride: of the layer that a second head reads; None for one head.

    Shapes:
        view [B, 1, px, px] in [0, 1] -> AgePrediction of [B]; `alone` has the ages of both heads if there are two

    Raises:
        InputError: the backbone is unknown or has no such stride.
    """

    def __init__(
        self,
        *,
        backbone: str = "inception_v3",
        px: int = 300,
        attention: str = "cbam",
        head: str = "regression",
        mean_months: float = 127.0,
        std_months: float = 41.0,
        auxiliary_stride: int | None = None,
    ) -> None:
        super().__init__()
        self.px = px
        self.backbone = Backbone(backbone, px)
        self.attention = (
            nn.Identity() if attention == "none" else cbam(self.backbone.channels, spatial_norm=attention == "cbam_norm")
        )
        ages: dict[str, Any] = {"kind": head, "mean_months": mean_months, "std_months": std_months}
        self.head = PooledAgeHead(AgeHead(self.backbone.channels, **ages))
        self.auxiliary_stride = str(auxiliary_stride)
        self.auxiliary = None
        if auxiliary_stride is not None:
            self.auxiliary = PooledAgeHead(AgeHead(self.backbone.channels_of(self.auxiliary_stride), **ages))

    def features(self, view: GrayImage) -> FeatureMap:
        """Compute the refined feature map F'' [B, C, h, w] of a view [B, 1, px, px]. The heat map is read from it."""
        return self.attention(self.backbone(view))

    def layer(self, name: str) -> nn.Module:
        """Return a layer by stride or name, see `Backbone.layer`; for the last stride CBAM, which returns F''.

        Raises:
            InputError: the backbone has no such layer.
        """
        return self.attention if name == [*self.backbone.strides()][-1] else self.backbone.layer(name)

    def forward(self, view: GrayImage) -> AgePrediction:
        if self.auxiliary is None:
            return self.head(self.features(view))
        last, middle = self.backbone.with_middle(view, self.auxiliary_stride)
        own, early = self.head(self.attention(last)), self.auxiliary(middle)
        return own._replace(months=(own.months + early.months) / 2, alone=(own, early))
