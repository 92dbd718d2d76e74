"""Which radiographs a model has been trained or chosen on, and the licences that this puts on it; its source models' too."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from baa.data.cache import Radiographs
from baa.data.fingerprint import BYTES, fingerprints, recognized

TRAINED, CHOSEN, SEEN_IDS = "trained", "chosen", "seen_ids"


class Provenance(NamedTuple):
    """What a model inherits from its data.

    trained: fingerprints of its training radiographs. chosen: those of its validation radiographs, which chose its epoch and
    its intervals. Both include those of its source models. licences: texts of their sources' licences, each once.
    seen_ids: digests of the ids of training and validation cases, of source models of an earlier version, which recorded
    nothing else. unrecorded: digests of weights files without a record of their training data.
    """

    trained: frozenset[bytes] = frozenset()
    chosen: frozenset[bytes] = frozenset()
    licences: tuple[str, ...] = ()
    seen_ids: frozenset[int] = frozenset()
    unrecorded: tuple[str, ...] = ()

    def log_licences(self) -> None:
        """Log the licences before the model is used."""
        for licence in self.licences:
            rank_zero_info(licence)

    def count_radiographs(self) -> int:
        """Count the radiographs that it was trained or chosen on. An earlier version's count again."""
        return len(self.trained | self.chosen) + len(self.seen_ids)

    def knows(self, radiographs: Radiographs, *, trained_only: bool = False) -> Bool[np.ndarray, " case"]:
        """Return which radiographs, by their pixels, it was trained or chosen on; or trained on."""
        known = self.trained if trained_only else self.trained | self.chosen
        return recognized(fingerprints(radiographs), known) if known else np.zeros(len(radiographs.cases), bool)

    def knows_id(self, radiographs: Radiographs) -> Bool[np.ndarray, " case"]:
        """Return which cases have the id of a case that a model of an earlier version was trained or chosen on."""
        return np.array([id_digest(case.id) in self.seen_ids for case in radiographs.cases], bool)

    def knows_any(self, radiographs: Radiographs) -> Bool[np.ndarray, " case"]:
        """Return which radiographs it was trained or chosen on, by their pixels or, for an earlier version, by their ids."""
        return self.knows(radiographs) | self.knows_id(radiographs)

    def tensors(self) -> dict[str, Tensor]:
        """Return it as tensors, without the texts: 32 bytes a radiograph."""
        ids = torch.tensor(sorted(self.seen_ids), dtype=torch.int64)
        return {TRAINED: _packed(self.trained), CHOSEN: _packed(self.chosen), SEEN_IDS: ids}

    @classmethod
    def read(cls, tensors: Mapping[str, Any], licences: Iterable[str], unrecorded: Iterable[str] = ()) -> "Provenance":
        """Read it from `tensors` and texts; a model of an earlier version has ids only."""
        ids = tensors.get(SEEN_IDS, ())
        return cls(
            trained=_unpacked(tensors.get(TRAINED)),
            chosen=_unpacked(tensors.get(CHOSEN)),
            licences=tuple(licences),
            seen_ids=frozenset(ids.tolist() if isinstance(ids, Tensor) else ids),
            unrecorded=tuple(unrecorded),
        )


def joined(every: Sequence[Provenance]) -> Provenance:
    """Join what several models inherit."""
    return Provenance(
        trained=frozenset().union(*(one.trained for one in every)),
        chosen=frozenset().union(*(one.chosen for one in every)),
        licences=tuple(dict.fromkeys(text for one in every for text in one.licences)),
        seen_ids=frozenset().union(*(one.seen_ids for one in every)),
        unrecorded=tuple(dict.fromkeys(digest for one in every for digest in one.unrecorded)),
    )


def own_provenance(splits: Mapping[str, Radiographs], licence: str | None) -> Provenance:
    """The provenance of a model that starts from none.

    Args:
        splits: radiographs by split; `train` and `val` count.
        licence: of their source (`SOURCES[name].licence`); None if it has none.
    """
    trained, chosen = (frozenset(fingerprints(splits[split])) for split in ("train", "val"))
    return Provenance(trained, chosen, () if licence is None else (licence,))


def id_digest(case_id: str) -> int:
    """Seven bytes of a hash of an id, as earlier versions recorded it."""
    return int.from_bytes(hashlib.blake2b(case_id.encode(), digest_size=7).digest(), "big")


def _packed(prints: frozenset[bytes]) -> Tensor:
    return torch.from_numpy(np.frombuffer(b"".join(sorted(prints)), np.uint8).reshape(-1, BYTES).copy())


def _unpacked(packed: Tensor | None) -> frozenset[bytes]:
    if packed is None:
        return frozenset()
    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != BYTES:
        raise ValueError("fingerprints of another form")
    return frozenset(row.tobytes() for row in packed.numpy())
