"""Labels beside points, placed so that they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT_SIZE = 6.0
CLEARANCE = 2.2
"""Half the side of the box around a point that labels keep out of, in points."""

SIDES = {"left": 0.0, "center": -0.5, "right": -1.0}
LEVELS = {"bottom": 0.0, "center": -0.5, "top": -1.0}
PLACES = [
    (CLEARANCE + 0.8, 0.0, "left", "center"),
    (-CLEARANCE - 0.8, 0.0, "right", "center"),
    (0.0, CLEARANCE, "center", "bottom"),
    (0.0, -CLEARANCE, "center", "top"),
    (CLEARANCE, CLEARANCE, "left", "bottom"),
    (CLEARANCE, -CLEARANCE, "left", "top"),
    (-CLEARANCE, CLEARANCE, "right", "bottom"),
    (-CLEARANCE, -CLEARANCE, "right", "top"),
]
"""Where a label may be: the first that covers least is taken."""

Box = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""


def place_labels(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> None:
    """Write a name beside each point, one after another.

    Args:
        axes: of a figure whose layout is done: where points are is looked at now.
        points: in data coordinates.
        names: one for each.
    """
    scale = 72.0 / axes.figure.dpi
    at = [tuple(scale * axes.transData.transform(point)) for point in points]
    frame = [scale * side for side in axes.get_window_extent().extents]
    taken = [(x - CLEARANCE, y - CLEARANCE, x + CLEARANCE, y + CLEARANCE) for x, y in at]
    for point, (x, y), name in zip(points, at, names, strict=True):
        text = axes.annotate(
            name, point, xytext=(0, 0), textcoords="offset points", fontsize=FONT_SIZE
        )
        text.set_in_layout(False)
        size = text.get_window_extent()
        width, height = scale * size.width, scale * size.height
        options = []
        for place in PLACES:
            box = _box(x, y, width, height, place)
            covered = sum(_overlap(box, other) for other in taken) + _outside(box, frame)
            options.append((covered, box, place))
        _, box, (dx, dy, side, level) = min(options, key=lambda option: option[0])
        text.set_position((dx, dy))
        text.set_horizontalalignment(side)  # type: ignore[arg-type]
        text.set_verticalalignment(level)  # type: ignore[arg-type]
        taken.append(box)


def _box(
    x: float, y: float, width: float, height: float, place: tuple[float, float, str, str]
) -> Box:
    dx, dy, side, level = place
    left, bottom = x + dx + SIDES[side] * width, y + dy + LEVELS[level] * height
    return left, bottom, left + width, bottom + height


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _outside(box: Box, frame: Sequence[float]) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    return area - _overlap(box, (frame[0], frame[1], frame[2], frame[3]))
