"""The keys of a grid file: their types, ranges and defaults, as pydantic models."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError, field_validator

from orchestrator.distance_keys import Distance
from orchestrator.tune_keys import ChoiceEntry, Domain, Tune
from orchestrator.yaml_source import Document, Location
from workers.errors import Problem, nearest
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
    cpus: float = Field(1.0, gt=0)
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

    input_size: Annotated[list[Size], Field(min_length=3, max_length=3)] | None = None
    crop_pct: float | None = Field(None, gt=0, le=1)
    crop_mode: Literal["center", "squash", "border"] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    mean: PerChannel | None = None
    std: PerChannel | None = None

    @field_validator("std")
    @classmethod
    def _positive(cls, std: list[float] | None) -> list[float] | None:
        if std is not None and min(std) <= 0:
            raise ValueError("every number should be above 0")
        return std


class ModelEntry(_Section):
    """A model by the name it has in timm or the suite, or a weights file with an architecture."""

    name: NonEmpty
    architecture: NonEmpty | None = None
    weights: NonEmpty | None = Field(None, description="a safetensors or PyTorch file")
    key: NonEmpty | None = Field(
        None, description="which state dict of a training checkpoint, where it holds several"
    )
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="which weights file is meant, by its digest; checked when it is read"
    )
    pretraining: str | None = Field(None, description="what tables say it was pre-trained on")
    arguments: dict[str, Any] = Field(default_factory=dict, description="of timm.create_model")
    transform: TransformOverrides = TransformOverrides()
    resources: Resources | None = Field(None, description="what its cells ask for, if not as usual")


class Throughput(_Section):
    """How fast one cell of a model goes, for the estimates of `rib plan`."""

    train: float | None = Field(None, gt=0, description="images per second of fine-tuning")
    evaluate: float | None = Field(None, gt=0, description="images per second of evaluation")


class MethodFileEntry(_Section):
    """A Python file with methods in it."""

    path: NonEmpty
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="of the file that is meant; written where a grid is kept"
    )


class GridFile(_Section):
    """A grid file. What is required is checked in `orchestrator.grid`, with everything else."""

    name: Name | None = None
    suite: Any = None
    """A name, a file or a mapping: see `orchestrator.extensions`."""
    data_root: NonEmpty | None = None
    store: NonEmpty | None = None
    models: Annotated[list[ModelEntry], Field(min_length=1)] | None = None
    downstream: Names = "all"
    methods: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    method_files: list[MethodFileEntry] = []
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    recipe: Recipe = Recipe()
    evaluate: Names = "all"
    resources: Resources = Resources()
    acknowledge: list[NonEmpty] = []
    skip_undecodable: list[NonEmpty] | Literal["all"] = []
    accept_images: dict[str, Size] = {}
    data_manifest: NonEmpty | None = None
    throughput: dict[str, Throughput] = {}
    distance: Distance = Distance()
    tune: Tune | None = None
    choices: list[ChoiceEntry] = []
    keep: Keep = "all"
    min_free: ByteSize = ByteSize(2**30)


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
        ("distance", Distance),
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
