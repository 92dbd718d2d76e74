"""Which cases a model has been trained on, and the licences that this puts on it. Its source models' count too."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_info


class Provenance(NamedTuple):
    """What a model inherits from its data.

    seen: digests of the ids of its training and validation cases.
    licences: texts of their sources' licences, each once.
    """

    seen_ids: frozenset[int]
    licences: tuple[str, ...]

    def log_licences(self) -> None:
        """Log the licences before the model is used."""
        for licence in self.licences:
            rank_zero_info(licence)


def provenance(ids: Iterable[str], licence: str | None, source_models: Iterable[Provenance] = ()) -> Provenance:
    """The provenance of a model.

    Args:
        ids: its training and validation cases.
        licence: of their source (`SOURCES[name].licence`); None if it has none.
        source_models: provenance of the models whose weights or crops it starts from.
    """
    own = Provenance(frozenset(map(id_digest, ids)), () if licence is None else (licence,))
    every = [own, *source_models]
    licences = dict.fromkeys(text for one in every for text in one.licences)
    return Provenance(frozenset().union(*(one.seen_ids for one in every)), tuple(licences))


def id_digest(case_id: str) -> int:
    """Seven bytes of a hash. It hides an id, but anyone who guesses the id can check whether it is among those seen."""
    return int.from_bytes(hashlib.blake2b(case_id.encode(), digest_size=7).digest(), "big")
