"""What an executor hands to a worker: which cell, what to evaluate, and where things are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.cell import Cell
from workers.curve import Curve
from workers.method_files import MethodFile
from workers.suites import Suite, adopt


@dataclass(frozen=True)
class Site:
    """Where things are on the machine that a cell runs on. No part of a cell's identity."""

    store: str
    """URI of the store."""
    data_root: str
    """A folder; what differs by machine in it (`${RIB_DATA}`, `~`) is filled in on each."""
    threads: int = 1
    """CPU threads that torch computes with."""
    loader_workers: int = 0
    """Processes that decode images beside the main one; for sets too large for the cache."""
    skip_undecodable: tuple[str, ...] = ()
    """Evaluation sets that are scored without the images that do not decode."""
    accept_images: Mapping[str, int] = field(default_factory=dict)
    """Sets that are to have another number of images than the published one, and which."""
    micro_batches: int = 1
    """Parts that each batch is cut into, gradients adding up, to save memory."""
    state_seconds: float = 60.0
    """Training states are at least this far apart: what a killed try can lose, and an epoch."""
    predictions: tuple[str, ...] = ()
    """Evaluation sets whose predictions are kept, image by image."""
    top: int = 10
    """How many of the most probable classes are kept with each."""
    driver: str = ""
    """Whose cells these are; it may ask them to stop (`workers.going`). None may without a name."""
    image_cache: str = ""
    """A folder for transformed images (`workers.pixel_cache`), filled in like `data_root`."""
    image_cache_bytes: int = 0
    """How large it may become on each machine."""
    suite: Suite | None = None
    """The cells' suite, where their user declares it."""
    method_files: tuple[MethodFile, ...] = ()
    """Methods that are in files of the user's."""
    git_commit: str = ""
    ray_version: str = ""

    def adopt(self) -> None:
        """Let this process know what the cells are made of that is not built in.

        Raises:
            UserError: when it knows something else by that name.
        """
        for file in self.method_files:
            file.adopt()
        if self.suite is not None:
            adopt(self.suite)


@dataclass(frozen=True)
class Job:
    """One try at a cell."""

    cell: Cell
    evaluate: tuple[str, ...]
    """The evaluation sets whose rows are missing; none for a cell that others only start from."""
    attempt: int = 1
    micro_batches: int = 1
    """Times as many parts; raised after running out of GPU memory."""
    loader_share: float = 1.0
    """Part of the loader workers that it gets; lowered after running out of host memory."""
    memory_factor: int = 1
    """Times as much host memory is reserved for it; raised after running out of host memory."""
    memory: int | None = None
    """Bytes of host memory that are reserved for it, as its executor fills in."""

    scored: tuple[str, ...] = ()
    """Those of `evaluate` whose rows are there, and only predictions are missing."""
    helps: bool = False
    """Whether another worker is at this try, and this one scores some of its splits."""
    along: tuple[Cell, ...] = ()
    """Cells whose models are scored in the same passes; each has a try of its own later."""
    curve: Curve | None = None
    """What is evaluated while it is trained, if it is."""
    recorded: frozenset[tuple[str, int]] = frozenset()
    """The sets and epochs of which that is in the store."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all parts of the accuracy table that it may commit."""
        if self.curve is None or self.cell.recipe is None:
            return self.evaluate
        return (*self.evaluate, *self.curve.parts(self.cell.recipe["epochs"]))

    def micro_batches_at(self, site: Site) -> int:
        """Return how many parts each of its batches is cut into."""
        return site.micro_batches * self.micro_batches

    def loader_workers_at(self, site: Site) -> int:
        """Return how many processes decode images for it."""
        return int(site.loader_workers * self.loader_share)
