"""Suites that a user declares in YAML: their own folders, read by the layouts that are here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from workers.labels import LabelSpace
from workers.suites.base import DatasetSpec, Suite, corruption_splits

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
ClassId = Annotated[str, Field(pattern=r"^[^/\x00]*[^/\x00.][^/\x00]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SetDeclaration(_Section):
    """One data set: what it is called, where it lies, and what should be there."""

    name: Name = Field(description="what grids and tables call it")
    folder: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="below the data root; by default the set's name"
    )
    layout: Literal["class_folders", "index_folders", "corruption_folders"] = Field(
        "class_folders", description="how the folder is arranged"
    )
    classes: Annotated[list[ClassId], Field(min_length=1)] | None = Field(
        None, description="those that it holds, when fewer than the suite's"
    )
    images: int | None = Field(None, ge=1, description="how many it should have, all splits")
    derived_from: Name | None = Field(
        None, description="the set whose images it was made from: tuning on one contaminates both"
    )
    corruptions: Annotated[list[Name], Field(min_length=1)] | None = Field(
        None, description="of `corruption_folders`"
    )
    severities: Annotated[list[int], Field(min_length=1)] | None = Field(
        None, description="of `corruption_folders`"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> SetDeclaration:
        folder = PurePosixPath(self.folder or self.name)
        if folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"the folder {str(folder)!r} is not below the data root")
        given = {self.corruptions is not None, self.severities is not None}
        if given != {self.layout == "corruption_folders"}:
            raise ValueError("corruptions and severities go with the layout corruption_folders")
        if self.layout != "class_folders" and self.classes is not None:
            raise ValueError(f"{self.layout} has all of the suite's classes")
        return self

    def spec(self) -> DatasetSpec:
        splits = corruption_splits(self.corruptions or (), self.severities or ())
        return DatasetSpec(
            self.name,
            self.folder or self.name,
            self.layout,
            classes=None if self.classes is None else tuple(self.classes),
            n_images=self.images,
            derived_from=self.derived_from,
            splits=splits or ((None, None),),
            is_even=False,
        )


class SuiteDeclaration(_Section):
    """A suite: its classes, its ID set, and the OOD sets that share them."""

    name: Name = Field(description="what tables call it; none that is built in")
    version: Annotated[str, Field(min_length=1)] = Field(
        "1", description="part of every cell's identity: raise it when images or labels change"
    )
    classes: Annotated[list[ClassId], Field(min_length=2)] = Field(
        description="their ids in the order of a model's outputs"
    )
    id: SetDeclaration = Field(description="the in-distribution set")
    ood: Annotated[list[SetDeclaration], Field(min_length=2)] = Field(
        description="the out-of-distribution sets"
    )
    id_train: SetDeclaration | None = Field(None, description="ID images that nothing is tested on")

    @model_validator(mode="after")
    def _fits_together(self) -> SuiteDeclaration:
        if wrong := list(self._wrong()):
            raise ValueError("; ".join(wrong))
        return self

    def _wrong(self) -> Iterator[str]:
        sets = [self.id, *self.ood, *([self.id_train] if self.id_train else [])]
        names = [one.name for one in sets]
        for what, values in (("class", self.classes), ("set", names)):
            for value in dict.fromkeys(v for v in values if values.count(v) > 1):
                yield f"the {what} {value!r} is there twice"
        for one in sets:
            if strange := set(one.classes or ()) - set(self.classes):
                yield f"{one.name!r} has classes that the suite has not: {sorted(strange)}"
            if one.derived_from is not None and one.derived_from not in set(names) - {one.name}:
                yield f"{one.name!r} is derived from {one.derived_from!r}, which is no other set"

    def suite(self) -> Suite:
        return Suite(
            name=self.name,
            version=self.version,
            space=LabelSpace(tuple(self.classes)),
            id=self.id.spec(),
            ood=tuple(one.spec() for one in self.ood),
            id_train=None if self.id_train is None else self.id_train.spec(),
            declaration=self.written(),
        )

    def written(self) -> dict[str, Any]:
        """Return what declares this suite again."""
        return self.model_dump(mode="json", exclude_none=True)
