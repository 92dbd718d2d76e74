"""The arguments of `Model.predict` as input files: radiographs, sexes and ages, one or several."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from baa.data.cases import parse_chronological, parse_sex
from baa.data.read.picture import CHANNELS
from baa.errors import InputError
from baa.inference.inputs import InputFile
from baa.patient import Sex

RadiographLike = str | Path | bytes | np.ndarray | Tensor
"""A path, the bytes of an image file, or an array [H, W], [H, W, C] or [C, H, W]."""

ACCEPTED = "give a path, bytes of a file, an array [H, W], [H, W, C] or [C, H, W], a batch of such arrays, or a flat list"


def as_inputs(x: Any, sex: Any, age_months: Any) -> tuple[list[InputFile], bool]:
    """List the radiographs and what is known of their patients; also return whether it is a single one.

    Args:
        x, sex, age_months: see `baa.api.Model.predict`.

    Raises:
        InputError: an argument of another kind, shape, range or length.
    """
    single = isinstance(x, str | Path | bytes) or (isinstance(x, np.ndarray | Tensor) and _is_single(x))
    if not single and (not isinstance(x, Iterable) or (isinstance(x, np.ndarray | Tensor) and x.ndim not in (3, 4))):
        raise InputError(f"x: {_kind(x)}; {ACCEPTED}")
    contents = [_content(one) for one in ([x] if single else x)]
    sexes = map(_as_sex, _per_radiograph(sex, len(contents), "sex"))
    ages = map(_as_months, _per_radiograph(age_months, len(contents), "age_months"))
    return [
        InputFile(content, sex, months, "option")
        if isinstance(content, Path)
        else InputFile(Path(), sex, months, "option", content)
        for content, sex, months in zip(contents, sexes, ages, strict=True)
    ], single


def _content(x: Any) -> Path | bytes | np.ndarray:
    """Convert one radiograph to a path, bytes, or an array in memory."""
    if isinstance(x, str | Path):
        return Path(x)
    if isinstance(x, bytes):
        return x
    if not isinstance(x, np.ndarray | Tensor) or not _is_single(x):
        raise InputError(f"x: {_kind(x)} is not one radiograph; {ACCEPTED}")
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return (x.float() if x.is_floating_point() else x).numpy()  # numpy has no bfloat16
    return x


def _is_single(x: np.ndarray | Tensor) -> bool:
    return x.ndim == 2 or (x.ndim == 3 and (x.shape[-1] in CHANNELS or x.shape[0] in CHANNELS))


def _kind(x: Any) -> str:
    return f"an array of shape {list(x.shape)}" if isinstance(x, np.ndarray | Tensor) else f"a {type(x).__name__}"


def _per_radiograph(value: Any, count: int, name: str) -> list[Any]:
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value] * count
    if len(values) != count:
        raise InputError(f"{name}: {len(values)} values for {count} radiographs; give one, or one per radiograph")
    return values


def _as_sex(sex: Any) -> Sex | None:
    if isinstance(sex, Sex):
        return sex
    if not isinstance(sex, str):
        if pd.isna(sex):
            return None
        raise InputError(f"sex: {sex!r} is none of female, male, unknown")
    try:
        return parse_sex(sex)
    except ValueError as error:
        raise InputError(str(error)) from None


def _as_months(age: Any) -> float | None:
    if pd.isna(age):
        return None
    try:
        return parse_chronological(str(age))
    except ValueError as error:
        raise InputError(f"age_months: {error}") from None
