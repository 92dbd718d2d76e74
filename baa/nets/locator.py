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

    Args:
        backbone: a timm model name.
        px: side of its square view.
        attention: `cbam`, `cbam_norm` (spatial convolution batch-normalized) or `none`.
        head: `regression` or `distribution`, see `AgeHead`.
        mean_months, std_months: of the training ages.

    Shapes:
        view [B, 1, px, px] in [0, 1] -> AgePrediction of [B]
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
    ) -> None:
        super().__init__()
        self.px = px
        self.backbone = Backbone(backbone)
        self.attention = (
            nn.Identity() if attention == "none" else cbam(self.backbone.channels, spatial_norm=attention == "cbam_norm")
        )
        self.head = PooledAgeHead(AgeHead(self.backbone.channels, kind=head, mean_months=mean_months, std_months=std_months))

    def features(self, view: GrayImage) -> FeatureMap:
        """Compute the refined feature map F'' [B, C, h, w], from which the heat map is read."""
        return self.attention(self.backbone(view))

    def forward(self, view: GrayImage) -> AgePrediction:
        return self.head(self.features(view))
