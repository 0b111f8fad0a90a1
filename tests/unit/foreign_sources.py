"""Files of other programs for tests, and what a reader made of them in a form that is short to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from lorabake.exchange.foreign import ForeignConfig, Given, Source, Unset

Read = Callable[[Source], ForeignConfig]


def make_source(text: str | bytes, path: Path = Path("other.file")) -> Source:
    return Source(path=path, content=text if isinstance(text, bytes) else text.encode())


def list_values(config: ForeignConfig) -> dict[str, object]:
    """Options of the training script by name."""
    return {name: given.value for name, given in config.options.items()}


def list_given(config: ForeignConfig) -> Iterator[tuple[str, Given]]:
    """Every option of a configuration, those of its launch, datasets and folders, too."""
    yield from config.options.items()
    yield from config.launch.items()
    for dataset in config.datasets:
        yield from dataset.options.items()
        for subset in dataset.subsets:
            yield from subset.options.items()


def list_lines(config: ForeignConfig) -> dict[str, str]:
    """What became of each key that is no option."""
    return {line.key: line.fate for line in config.keys}


def list_settled(config: ForeignConfig) -> set[str]:
    """Every key of the source that has become an option or a line."""
    return {key for _, given in list_given(config) for key in given.keys} | set(list_lines(config))


def find_repairs(config: ForeignConfig) -> dict[str, object]:
    """Options that are not simply what the source has, with what the program would have trained with."""
    return {
        name: "unset" if isinstance(given.trained, Unset) else given.trained
        for name, given in list_given(config)
        if given.repair is not None
    }
