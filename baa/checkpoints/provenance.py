"""What a model has been trained on, its parents' radiographs included, and what that demands of whoever uses it."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_info

LICENCES = {
    "rsna": "Trained on the RSNA Pediatric Bone Age Challenge's data (2017): for non-commercial research use.",
    "table": "Trained on data of its maker's: ask what they allow.",
}
"""By the source of the data; phantoms demand nothing."""


class Lineage(NamedTuple):
    """Digests of the ids that a model was trained or chosen on, and the licences of their sources, without repetition."""

    seen: frozenset[int]
    licences: tuple[str, ...]

    def tell(self) -> None:
        """Show the licences to whoever is about to use the model."""
        for licence in self.licences:
            rank_zero_info(licence)


def lineage(ids: Iterable[str], source: str, parents: Iterable[Lineage] = ()) -> Lineage:
    """Of a model that saw these cases of a source, and began from others or reads their crops."""
    own = Lineage(frozenset(map(id_digest, ids)), (LICENCES[source],) if source in LICENCES else ())
    every = [own, *parents]
    licences = dict.fromkeys(licence for line in every for licence in line.licences)
    return Lineage(frozenset().union(*(line.seen for line in every)), tuple(licences))


def id_digest(case_id: str) -> int:
    """Seven bytes of a hash: hides an id, but whoever can guess one can tell whether it was seen."""
    return int.from_bytes(hashlib.blake2b(case_id.encode(), digest_size=7).digest(), "big")
