"""Models: architectures from timm, their weights, their transforms, and their state dicts.

`build` makes a model; `weights` reads weights files; `hub` finds and fetches published weights;
`states` has what is done to state dicts.
"""

from workers.models.build import (
    check_head,
    check_weights,
    create,
    examine,
    load_pretrained,
    own_transform,
    transform_of,
    weights_digest,
    weights_path,
)
from workers.models.hub import Source, UnreachableError, source_of
from workers.models.states import (
    DamagedStateError,
    State,
    pack_state,
    pack_with_digest,
    state_of,
    unpack_state,
)

__all__ = [
    "DamagedStateError",
    "Source",
    "State",
    "UnreachableError",
    "check_head",
    "check_weights",
    "create",
    "examine",
    "load_pretrained",
    "own_transform",
    "pack_state",
    "pack_with_digest",
    "source_of",
    "state_of",
    "transform_of",
    "unpack_state",
    "weights_digest",
    "weights_path",
]
