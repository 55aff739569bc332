"""Whether a file of tensors in a store is whole: its size, its digest, its numbers."""

from __future__ import annotations

import json

from workers.storage import StorageError
from workers.store import CHECKPOINT, TRAINING_STATE, Store

MAX_HEADER_BYTES = 100_000_000
"""What safetensors itself takes at most."""


def checkpoint_fault(store: Store, name: str, quick: bool = False) -> str:
    """Say what is wrong with a safetensors file; nothing when it is whole.

    Args:
        store: that it is in.
        name: of the file, from the store's top.
        quick: look at its header and size only.

    Raises:
        StorageError: when it cannot be read.
    """
    try:
        return _size_fault(store, name) if quick else _content_fault(store, name)
    except FileNotFoundError:
        return ""  # a training state that its cell has done with since the listing


def _content_fault(store: Store, name: str) -> str:
    from workers.models import DamagedStateError, unpack_state
    from workers.training_state import is_whole

    data = store.storage.read(name)
    last = name.rpartition("/")[2]
    if last.startswith(TRAINING_STATE):
        return "" if is_whole(last, data) else "its digest is not that of its name"
    try:
        state = unpack_state(data)
    except DamagedStateError as error:
        return str(error)
    if last == CHECKPOINT:
        for tensor_name, tensor in state.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return f"{tensor_name} is not finite"
    return ""


def _size_fault(store: Store, name: str) -> str:
    """Compare a file's size with what its header says: 8 bytes, the header, the tensors."""
    try:
        with store.storage.filesystem.open_input_file(store.storage.path(name)) as stream:
            size = stream.size()
            length = int.from_bytes(stream.read(8), "little")
            if length > min(size, MAX_HEADER_BYTES):
                return "no safetensors, or cut short"
            header = json.loads(stream.read(length))
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"cannot read {name} from {store.uri}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "no safetensors, or cut short"
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"it has {size} bytes instead of {expected}"
