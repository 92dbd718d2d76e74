"""Several two-stage models as one, whose ages are averaged."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from baa.nets.heads import AgePrediction
from baa.nets.regions import Regions
from baa.nets.two_stage import BoneAgeModel
from baa.nets.view import View


class Ensemble(BoneAgeModel):
    """Average the ages of several models. Regions, heat maps and input check are those of the first.

    Each model cuts its own crops from the radiograph as the first one's input check rotated and mirrored it.

    Args:
        members: the models.
        weights: of their ages, positive; they are divided by their sum.

    Shapes:
        View of B, sex [B] -> AgePrediction of [B], as for `BoneAgeModel`

    Example:
        >>> from baa.nets.estimator import Estimator
        >>> one, other = (Estimator(backbones={"whole": "test_resnet"}, conv_pool=()) for _ in range(2))
        >>> Ensemble([BoneAgeModel(None, one).eval(), BoneAgeModel(None, other).eval()], [2.0, 1.0]).weights
        tensor([0.6667, 0.3333])
    """

    weights: Tensor

    def __init__(self, members: Sequence[BoneAgeModel], weights: Sequence[float]) -> None:
        first = members[0]
        super().__init__(
            first.cropper,
            first.estimator,
            whole_px=first.whole_px,
            flip_average=first.flip_average,
            input_check=first.input_check,
        )
        self.members = nn.ModuleList(members)
        shares = torch.tensor(weights)
        self.register_buffer("weights", shares / shares.sum(), persistent=False)
        self.train(first.training)

    def with_regions(self, view: View, regions: Regions | None) -> Iterator[tuple[BoneAgeModel, Regions | None]]:
        """Yield each model with its regions of a view.

        Args:
            view: of B.
            regions: of the first model, boxes [B, R, 4].
        """
        for i, member in enumerate(self.members):
            assert isinstance(member, BoneAgeModel)
            yield member, member.regions(view) if i else regions

    def mean(self, of_members: Sequence[Tensor]) -> Tensor:
        """Average what each model returned, [B] each, by the weights: [B]."""
        return torch.tensordot(self.weights.to(of_members[0].dtype), torch.stack(list(of_members)), dims=1)

    def forward(
        self, view: View, sex: Int[Tensor, " batch"], regions: Regions | None = None, scale: float = 1.0
    ) -> AgePrediction:
        first = self.regions(view) if regions is None else regions
        every = [member(view, sex, own, scale) for member, own in self.with_regions(view, first)]
        alone = [[one.months for one in prediction.alone] for prediction in every] if self.streams_with_ages else []
        return AgePrediction(
            self.mean([prediction.months for prediction in every]),
            alone=[AgePrediction(self.mean(months)) for months in zip(*alone, strict=True)],
        )

    @property
    def streams_with_ages(self) -> tuple[str, ...]:
        """Names of the streams that give an age of their own in every model."""
        first, *others = (member.streams_with_ages for member in self.members if isinstance(member, BoneAgeModel))
        return first if all(other == first for other in others) else ()
