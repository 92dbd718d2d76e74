"""An ensemble of trained models: their ages averaged, their validation errors pooled."""

import math
from collections.abc import Mapping, Sequence

from baa.checkpoints.provenance import joined
from baa.checkpoints.trained_model import TrainedModel
from baa.errors import InputError
from baa.nets.ensemble import Ensemble


def ensemble_of(models: Sequence[TrainedModel], weights: Sequence[float] | None = None) -> TrainedModel:
    """Join trained models to one whose age is the mean of theirs.

    Its intervals come from the validation errors of all models together. For the models of a cross-validation these are the
    out-of-fold errors of all cases. They are errors of single models, which the mean seldom exceeds: the intervals contain the
    true age at least as often as requested, on data like the validation cases.

    Args:
        models: of any stage; a single one is returned as it is.
        weights: of their ages; default: equal.

    Raises:
        InputError: no model, weights of another number or not positive, or models that read squares of different sides.
    """
    if not models:
        raise InputError("checkpoint: no model is given; give one or several")
    if weights is not None and (len(weights) != len(models) or not all(0 < one < math.inf for one in weights)):
        raise InputError(f"weights: {list(weights)} for {len(models)} models; give a positive number for each")
    first, *others = models
    if not others:
        return first
    sides = sorted({one.settings["data"]["source_px"] for one in models})
    if len(sides) > 1:
        raise InputError(
            f"checkpoint: the models read squares of {' and '.join(map(str, sides))} pixels (data.source_px); "
            "give models of one side"
        )
    return first._replace(
        model=Ensemble([one.model for one in models], weights or [1.0] * len(models)).eval(),
        provenance=joined([one.provenance for one in models]),
        calibration=pooled([one.calibration for one in models]),
        identity=f"ensemble of {len(models)}: {'; '.join(one.identity for one in models)}",
        lines={},
        members=tuple(models),
    )


def pooled(tables: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Pool tables of errors by group; see `baa.metrics.conformal`."""
    groups = dict.fromkeys(group for table in tables for group in table)
    return {group: sorted(error for table in tables for error in table.get(group, ())) for group in groups}
