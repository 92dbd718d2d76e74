"""Data sources. Each module or package in this folder whose name does not begin with an underscore is one.

Its name is the value of `data.source`. It defines `SOURCE`, and nothing else has to list it:

    SOURCE = Source(read=read_clinic, description="radiographs of our clinic", licence=None)

Example:
    >>> sorted(SOURCES)
    ['phantom', 'rsna', 'table']
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol, runtime_checkable

from baa.data.cases import CaseList


@runtime_checkable
class DataSettings(Protocol):
    """The `data` settings that a source may read. `table` and `phantom` are groups of settings for these sources."""

    @property
    def root(self) -> str | None: ...

    @property
    def table(self) -> Any: ...

    @property
    def phantom(self) -> Any: ...


class Source(NamedTuple):
    """A data source.

    read: settings -> usable cases, and problems of the other rows.
    description: what the radiographs are, for a model's card.
    licence: terms that a model trained on them passes on to its users; None if there are none.
    """

    read: Callable[[DataSettings], CaseList]
    description: str
    licence: str | None


class _Sources(Mapping[str, Source]):
    """The sources by name, each imported when it is first used."""

    def __getitem__(self, name: str) -> Source:
        if name not in list(self):
            raise KeyError(name)
        source: Source = import_module(f"{__name__}.{name}").SOURCE
        return source

    def __iter__(self) -> Iterator[str]:
        return (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))

    def __len__(self) -> int:
        return len(list(iter(self)))


SOURCES = _Sources()
