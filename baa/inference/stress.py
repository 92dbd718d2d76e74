"""How a model's ages change under changes of the image that occur in practice: the logic of `python -m baa.stress`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info
from scipy.stats import wilcoxon
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from baa.assembly.data import first_batches, load_splits
from baa.atomic_io import make_folder, write_atomic
from baa.checkpoints.trained_model import TrainedModel
from baa.config.load import load
from baa.config.schema import Config
from baa.data.batch import RadiographDataset, whole_batch
from baa.data.cache import Radiographs
from baa.data.transformations import TRANSFORMATIONS, transformed
from baa.data.workers import loading
from baa.errors import InputError
from baa.evaluation.checkpoint import chosen_cases
from baa.inference.graph import ExportedGraph
from baa.inference.read import read
from baa.metrics.ages import bootstrap_interval
from baa.plots.figures import save
from baa.plots.stress import stress_figure, transformed_figure
from baa.runtime.preemption import stoppable_work
from baa.runtime.stray import refuse_stray_ranks

AS_GIVEN = "none"
SIGNIFICANT_MONTHS = 12.0
TABLE = "stress.csv"
GRAPH_BATCH = 16


class _Sample(NamedTuple):
    """A batch of transformed radiographs: uint8 [B, 1, S, S], sexes [B], and the place of each among all pairs [B]."""

    image: Tensor
    sex: Tensor
    place: Tensor


class _Stressed(Dataset[_Sample]):
    """Every radiograph under every transformation, transformed on access. The first transformation is none."""

    def __init__(self, dataset: RadiographDataset, names: Sequence[str]) -> None:
        self.dataset = dataset
        self.names = names

    def __len__(self) -> int:
        return len(self.names) * len(self.dataset)

    def __getitems__(self, places: Sequence[int]) -> _Sample:
        sample = self.dataset.__getitems__([place % len(self.dataset) for place in places])
        for image, place in zip(sample.image.numpy(), places, strict=True):
            name = self.names[place // len(self.dataset)]
            if name != AS_GIVEN:
                image[0] = transformed(image[0], name)
        return _Sample(sample.image, sample.sex, torch.tensor(places))


class Ages(NamedTuple):
    """Predictions of a batch: ages [B] in months, and OOD scores [B], NaN without an input check."""

    months: Tensor
    scores: Tensor


def stress(
    trained: TrainedModel,
    overrides: Sequence[str],
    *,
    split: str,
    out: Path,
    device: torch.device,
) -> pd.DataFrame:
    """Read a split under each of `TRANSFORMATIONS`; write `stress.csv`, `stress.png` and `transformed.png`.

    Args:
        trained: the model, on the device.
        overrides, split, out: see `baa.evaluation.checkpoint.evaluate`.
        device: that the networks run on.

    Returns:
        The table; see `stress_table`.

    Raises:
        InputError: a setting or the data cannot be used, or the split has no case.
    """
    config, trained, radiographs = chosen_cases(trained, overrides, split, out)
    trained.model.to(device)

    def ages(source: Tensor, sex: Tensor) -> Ages:
        reading = read(trained, source.to(device), sex.to(device))
        return Ages(reading.months, reading.oriented.ood_score.float())

    return _stress(ages, config, getattr(config, trained.stage).fit.batch_size, radiographs, out)


def stress_graph(graph: ExportedGraph, overrides: Sequence[str], *, split: str, out: Path) -> pd.DataFrame:
    """Do the same with an exported graph. It has no input check, and does not record which cases its model has seen.

    Args:
        graph: the graph.
        overrides, split, out: see `stress`; the split is drawn as the settings say.

    Returns:
        The table; see `stress_table`.

    Raises:
        InputError: a setting or the data cannot be used, the split has no case, or `split` is `unseen`.
    """
    config = load([], overrides, base=graph.settings)
    refuse_stray_ranks(config.trainer.num_nodes)
    make_folder(out)
    splits = load_splits(config.data, out)
    if split not in splits:
        raise InputError(f"--split: an exported graph does not record its training cases; give {', '.join(splits)}")
    radiographs = first_batches(splits[split], config.trainer.limit_test_batches, GRAPH_BATCH)
    if not radiographs.cases:
        raise InputError(f"--split: {split} has no case; change data.split")
    rank_zero_info(f"{len(radiographs.cases)} cases ({split}); the graph does not record whether its model was trained on them")

    def ages(source: Tensor, sex: Tensor) -> Ages:
        return Ages(graph.months(source, sex), torch.full((len(sex),), torch.nan))

    return _stress(ages, config, GRAPH_BATCH, radiographs, out)


def _stress(
    ages: Callable[[Tensor, Tensor], Ages], config: Config, batch_size: int, radiographs: Radiographs, out: Path
) -> pd.DataFrame:
    dataset, names = RadiographDataset(radiographs), (AS_GIVEN, *TRANSFORMATIONS)
    workers = loading(config.data.workers)
    loader: DataLoader[_Sample] = DataLoader(_Stressed(dataset, names), batch_size, collate_fn=whole_batch, **workers)
    months, scores = torch.empty(2, len(names) * len(dataset)).unbind()
    hidden = not config.trainer.progress
    with stoppable_work("nothing is written"), tqdm(total=len(months), desc="radiographs", disable=hidden) as bar:
        for image, sex, place in loader:
            months[place], scores[place] = ages(image.float().div_(255), sex)
            bar.update(len(place))
    table = stress_table(names, dataset.labels.months.numpy(), *(x.view(len(names), -1).numpy() for x in (months, scores)))
    write_atomic(out / TABLE, table.to_csv(index=False))
    save(stress_figure(table), out / "stress.png")
    film = radiographs.pixels(len(dataset) // 2)
    films = {AS_GIVEN: film} | {name: transformed(film, name) for name in TRANSFORMATIONS}
    save(transformed_figure(films), out / "transformed.png")
    return table


def stress_table(names: Sequence[str], true: np.ndarray, months: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Compare the ages under each transformation with those of the radiographs as they are.

    Args:
        names: of T transformations; the first is none.
        true: ages [N] in months, NaN where unknown.
        months: predicted ages [T, N].
        scores: OOD scores [T, N]; NaN without an input check.

    Returns:
        One row per transformation. mae, mae_low, mae_high: its error in months, with the bootstrap 95 % interval, and p, by
        Wilcoxon's signed-rank test of the absolute errors against those of the first row. mean_change, mean_absolute_change:
        of the predicted age. changed_over_12, error_over_12: shares of radiographs whose age changes, or is wrong, by more
        than `SIGNIFICANT_MONTHS`. not_recognized: share for which the input check warns.
    """
    known = np.isfinite(true)
    errors = np.abs(months - true)[:, known]
    changes = months - months[0]
    rows = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"transformation": name, "cases": len(true)}
        if known.sum() > 1:
            low, high = bootstrap_interval(torch.from_numpy(errors[i]))
            row |= {"mae": errors[i].mean(), "mae_low": low, "mae_high": high, "p": _p_value(errors[i] - errors[0])}
            row |= {"error_over_12": (errors[i] > SIGNIFICANT_MONTHS).mean()}
        row |= {"mean_change": changes[i].mean(), "mean_absolute_change": np.abs(changes[i]).mean()}
        row |= {"changed_over_12": (np.abs(changes[i]) > SIGNIFICANT_MONTHS).mean()}
        if np.isfinite(scores).all():
            row |= {"not_recognized": (scores[i] > 0).mean()}
        rows.append(row)
    return pd.DataFrame(rows).round(4)


def _p_value(differences: np.ndarray) -> float:
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
