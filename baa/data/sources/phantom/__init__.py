"""Synthetic hand radiographs with known anatomy. They need no download."""

from baa.data.cases import CaseList
from baa.data.sources import DataSettings, Source
from baa.data.sources.phantom.phantom import Phantom, phantom_cases

__all__ = ["SOURCE", "Phantom", "phantom_cases"]


def _read(data: DataSettings) -> CaseList:
    return phantom_cases(data.phantom.count, seed=data.phantom.seed), []


SOURCE = Source(read=_read, description="synthetic hand radiographs; not for use on real radiographs", licence=None)
