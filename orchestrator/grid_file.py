"""The keys of a grid file: their types, ranges and defaults, as pydantic models."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator

from orchestrator.distance_keys import Distance
from orchestrator.evaluation_keys import CurveKeys
from orchestrator.tune_keys import ChoiceEntry, Domain, Tune
from orchestrator.yaml_source import Document, Location
from workers.errors import Problem, nearest
from workers.predictions import TOP
from workers.recipe import Recipe

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=128)]
Keep = Literal["needed", "all", "none"]
"""Which checkpoints stay: see `orchestrator.keep`."""
SectionT = TypeVar("SectionT", bound=BaseModel)

NonEmpty = Annotated[str, Field(min_length=1)]
Names = Annotated[list[NonEmpty], Field(min_length=1)] | Literal["all"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1)]
PerChannel = Annotated[list[float], Field(min_length=3, max_length=3)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Resources(_Section):
    """What one cell is given while it runs."""

    gpus: float = Field(0.0, ge=0, description="whole above 1; a fraction shares one GPU")
    cpus: float = Field(1.0, gt=0, description="the process and its loaders together")
    memory: ByteSize | None = Field(None, description="host memory to reserve, such as 8GiB")
    labels: dict[str, str] = Field(default_factory=dict, description="of the nodes to run on")
    loader_workers: int = Field(0, ge=0, description="processes that decode images beside it")
    micro_batches: int = Field(
        1, ge=1, description="parts that a batch is cut into, gradients adding up, to save memory"
    )
    state_seconds: float = Field(
        60.0, ge=0, description="training states are saved after an epoch, this far apart or more"
    )

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("should be a whole number when it is above 1")
        return gpus

    def written(self) -> dict[str, Any]:
        """Return the keys that were given, as a grid file has them."""
        return self.model_dump(mode="json", exclude_unset=True)


class TransformOverrides(_Section):
    """What replaces parts of a model's own evaluation transform."""

    input_size: Annotated[list[Size], Field(min_length=3, max_length=3)] | None = Field(
        None, description="channels, height, width"
    )
    crop_pct: float | None = Field(
        None, gt=0, le=1, description="side of the crop as a part of the resized image's"
    )
    crop_mode: Literal["center", "squash", "border"] | None = Field(
        None, description="how an image becomes a square: timm's names"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = Field(
        None, description="how images are resized"
    )
    mean: PerChannel | None = Field(None, description="of each channel, on the scale of 0 to 1")
    std: PerChannel | None = Field(None, description="of each channel; above 0")

    @field_validator("std")
    @classmethod
    def _positive(cls, std: list[float] | None) -> list[float] | None:
        if std is not None and min(std) <= 0:
            raise ValueError("every number should be above 0")
        return std


class ModelEntry(_Section):
    """A model by the name it has in timm or the suite, or a weights file with an architecture."""

    name: NonEmpty = Field(
        description="what tables call it; without `weights`, whose weights it has"
    )
    architecture: NonEmpty | None = Field(
        None, description="a timm model name; goes with `weights`"
    )
    weights: NonEmpty | None = Field(None, description="a safetensors or PyTorch file")
    key: NonEmpty | None = Field(
        None, description="which state dict of a training checkpoint, where it holds several"
    )
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="which weights file is meant, by its digest; checked when it is read"
    )
    pretraining: str | None = Field(None, description="what tables say it was pre-trained on")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of timm.create_model")
    transform: TransformOverrides = Field(
        TransformOverrides(),
        description="changes to its evaluation transform, which it is trained with, too",
    )
    resources: Resources | None = Field(None, description="what its cells ask for, if not as usual")


class Throughput(_Section):
    """How fast one cell of a model goes, for the estimates of `rib plan`."""

    train: float | None = Field(None, gt=0, description="images per second of fine-tuning")
    evaluate: float | None = Field(None, gt=0, description="images per second of evaluation")


class ImageCache(_Section):
    """Where each machine keeps images as they come out of a model's transform."""

    folder: NonEmpty = Field(description="on each machine, best a local disk")
    max_size: ByteSize = Field(ByteSize(100 * 2**30), ge=0, description="on each machine")


class MethodFileEntry(_Section):
    """A Python file with methods in it."""

    path: NonEmpty = Field(description="where it lies; the entry may be the path alone")
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="of the file that is meant; written where a grid is kept"
    )


class GridFile(_Section):
    """A grid file. What is required is checked in `orchestrator.grid`, with everything else."""

    name: Name | None = Field(None, description="what tables and the default store are called")
    suite: Any = Field(
        None,
        description="the name of a suite, a file that declares one, or the declaration itself",
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "object"}]},
    )
    data_root: NonEmpty | None = Field(
        None, description="the folder that the suite's data sets lie in"
    )
    store: NonEmpty | None = Field(
        None,
        description="where results go: a folder or `s3://...`; `runs/NAME` if not given; "
        "`--store` comes first",
    )
    models: Annotated[list[ModelEntry], Field(min_length=1)] | None = Field(
        None, description="a plain name stands for a mapping with that `name`"
    )
    downstream: Names = Field("all", description="the OOD sets to fine-tune on")
    methods: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = Field(
        None,
        description="a plain name stands for a mapping with that `method`; the baseline, "
        "`pretrained`, is always there",
    )
    method_files: list[MethodFileEntry] = Field([], description="Python files with methods")
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        [0], description="each makes a cell of its own; a baseline has one cell whatever the seeds"
    )
    recipe: Recipe = Field(Recipe(), description="how cells are trained")
    evaluate: Names = Field(
        "all", description="the sets that every cell is scored on; RI needs all OOD ones"
    )
    curve: CurveKeys | None = Field(
        None, description="what is evaluated while a cell is trained, epoch by epoch"
    )
    predictions: list[NonEmpty] | Literal["all"] = Field(
        [], description="the evaluation sets whose predictions are kept, image by image"
    )
    top_classes: Size = Field(
        TOP, description="how many of the most probable classes are kept with each prediction"
    )
    resources: Resources = Field(Resources(), description="what one cell is given while it runs")
    acknowledge: list[NonEmpty] = Field(
        [], description="licence clauses that you know of, by their names"
    )
    skip_undecodable: list[NonEmpty] | Literal["all"] = Field(
        [], description="sets whose images that do not decode are left out instead of an error"
    )
    accept_images: dict[str, Size] = Field(
        {}, description="by set: how many images it holds, where not the published number"
    )
    data_manifest: NonEmpty | None = Field(
        None, description="the manifest of `rib data check`, if not below the data root"
    )
    throughput: dict[str, Throughput] = Field(
        {}, description="by model: images per second, for the hours of `rib plan`"
    )
    distance: Distance = Field(Distance(), description="how `rib distance` measures")
    tune: Tune | None = Field(None, description="what `rib tune` searches for, and how")
    choices: list[ChoiceEntry] = Field(
        [], description="values that some cells have in place of the grid's, as `rib tune` writes"
    )
    image_cache: ImageCache | None = Field(
        None, description="where each machine keeps decoded images"
    )
    score_together: Size = Field(
        1, description="models that only have to be scored and go through a set in one pass"
    )
    keep: Keep = Field(
        "all",
        description="which checkpoints stay: `needed` deletes those that others were made from "
        "once nothing needs them, `none` deletes every one then",
    )
    min_free: ByteSize = Field(
        ByteSize(2**30),
        description="stays free on the store's disk: cells wait while there is less",
    )


REQUIRED = ("name", "suite", "data_root", "models", "methods")


def parse_grid_file(document: Document) -> tuple[GridFile, list[Problem]]:
    """Check types and ranges; return what is usable, and every problem.

    A key with a problem gets its default, so that the others can be checked further.
    """
    raw = _spell_out(document.value)
    problems: list[Problem] = []
    parsed = validate(GridFile, raw, document, (), problems)
    if parsed is None:
        faulty = {key for key in raw if _is_faulty(key, raw[key])}
        parsed = GridFile.model_validate_json(
            json.dumps({key: raw[key] for key in raw if key not in faulty}), strict=True
        )
    problems += [
        Problem(document.name, f"the key {key!r} is missing")
        for key in REQUIRED
        if key not in raw or raw[key] is None
    ]
    return parsed, problems


def _is_faulty(key: str, value: Any) -> bool:
    try:
        GridFile.model_validate_json(json.dumps({key: value}, default=str), strict=True)
    except ValidationError:
        return True
    return False


def _spell_out(raw: dict[str, Any]) -> dict[str, Any]:
    """Write the short forms of models and methods (a plain name) as the mappings they stand for."""
    spelled = {str(key): value for key, value in raw.items()}
    for key, field in (("models", "name"), ("methods", "method"), ("method_files", "path")):
        if isinstance(spelled.get(key), list):
            spelled[key] = [{field: x} if isinstance(x, str) else x for x in spelled[key]]
    return spelled


def validate(
    section: type[SectionT],
    raw: Any,
    document: Document,
    location: Location,
    problems: list[Problem],
) -> SectionT | None:
    """Validate a part of a grid strictly (no "10" for 10); append what is wrong with it."""
    try:
        return section.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        for detail in error.errors():
            # Pydantic names the branch of a union inside the location; a grid has no such key.
            branches = [part for part in detail["loc"] if _is_branch(part)]
            if branches and str(branches[0]).startswith("literal["):
                continue  # of a list or 'all': what is wrong is told of the list
            inner = tuple(part for part in detail["loc"] if not _is_branch(part))
            where = document.where((*location, *inner))
            problems.append(_explain(section, detail, inner, where))
        return None


def _is_branch(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith(("list[", "literal["))


def _explain(section: type[BaseModel], detail: Any, location: Location, where: str) -> Problem:
    if detail["type"] == "extra_forbidden":
        return Problem(
            where, "unknown key", nearest(str(location[-1]), _keys_at(section, location))
        )
    if detail["type"] == "missing":
        return Problem(where, "this key is missing")
    return Problem(where, _complaint(detail) + _shown(detail["input"]))


def _complaint(detail: Any) -> str:
    """Say what a value should be, in YAML's words rather than Python's or JSON's."""
    kind = detail["type"]
    if kind in ("too_short", "string_too_short") and detail["ctx"]["min_length"] == 1:
        return "should not be empty"
    if kind == "list_type" and any(_is_branch(part) for part in detail["loc"]):
        return "should be a list of names, or 'all'"
    if kind in ("list_type", "tuple_type"):
        return "should be a list"
    if kind in ("model_type", "dict_type"):
        return "should be a mapping of keys to values"
    if kind == "string_pattern_mismatch":
        return "should be letters, digits and . _ + -, and begin with a letter or digit"
    message: str = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[0].lower() + message[1:]


def _shown(given: Any) -> str:
    """Quote a short value as YAML spells it: true, null, '10'."""
    if given == "" or (isinstance(given, dict | list) and (not given or len(str(given)) > 40)):
        return ""
    return f", not {given!r}" if isinstance(given, str) else f", not {json.dumps(given)}"


def _keys_at(section: type[BaseModel], location: Location) -> list[str]:
    """Return the keys that are allowed where an unknown one was found."""
    keys = list(section.model_fields)
    for name, nested in (
        ("recipe", Recipe),
        ("models", ModelEntry),
        ("method_files", MethodFileEntry),
        ("throughput", Throughput),
        ("image_cache", ImageCache),
        ("distance", Distance),
        ("curve", CurveKeys),
        ("tune", Tune),
        ("choices", ChoiceEntry),
    ):
        if len(location) > 1 and location[0] == name:
            keys = list(nested.model_fields)
    if location[:2] == ("tune", "space"):
        keys = list(Domain.model_fields)
    if "transform" in location[:-1]:
        keys = list(TransformOverrides.model_fields)
    if "resources" in location[:-1]:
        keys = list(Resources.model_fields)
    return keys
