"""How figures look: sizes of a two-column paper, fonts, and a look of its own for each method.

Colours are those of Okabe and Ito (2008, "Color universal design"), which people with any of the
common colour vision deficiencies tell apart; yellow is left out for being faint on white. Methods
beyond the first six have the same colours again, with other hatches, lines and markers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.errors import Problem, UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.25
"""Width of a column, in inches."""
PAGE = 6.75
"""Width of a page's text, in inches."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
HATCHES = ("", "////", "....", "xxxx")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

INK = "#222222"
GREY = "#8a8a8a"
FAINT = "#d9d9d9"

RC: Any = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],  # both come with matplotlib
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.0,
    "patch.linewidth": 0.5,
    "hatch.linewidth": 0.4,
    "text.parse_math": False,  # a name may have a $ in it
    "text.usetex": False,
    "pdf.fonttype": 42,  # TrueType outlines: text stays text
    "savefig.dpi": 300,
    "figure.dpi": 100,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of a paper, whatever the user's own settings are.

    Raises:
        UserError: when matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        hint = "pip install 'rib-orchestrator[figures]'"
        raise UserError([Problem("figures", "matplotlib is not installed", hint)]) from error
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every figure."""

    colour: str
    hatch: str = ""
    line: Any = "-"
    marker: str = "o"


BASELINE_LOOK = Look(INK, line="--", marker="")


def looks_of(methods: Sequence[str]) -> dict[str, Look]:
    """Give each method a look of its own, by its place."""
    looks = {}
    for place, method in enumerate(methods):
        again, colour = divmod(place, len(COLOURS))
        looks[method] = Look(
            COLOURS[colour],
            HATCHES[again % len(HATCHES)],
            LINES[again % len(LINES)],
            MARKERS[place % len(MARKERS)],
        )
    return looks


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, whose parts make room for each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panels(figure: Figure, n: int, columns: int, **options: Any) -> tuple[list[Axes], Axes | None]:
    """Divide a figure into n panels, row by row.

    Returns:
        The panels, and an empty one if the last row has room for it: for the legend.
    """
    rows = math.ceil(n / columns)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    spare = axes[n:]
    for one in spare:
        one.set_axis_off()
    return axes[:n], (spare[0] if spare else None)


def label_lowest(axes: Sequence[Axes], columns: int) -> None:
    """Put numbers on the horizontal axis of the lowest panel of each column, and of no other."""
    for place, one in enumerate(axes):
        one.tick_params(labelbottom=place + columns >= len(axes))


def method_legend(
    figure: Figure,
    spare: Axes | None,
    looks: Mapping[str, Look],
    *,
    baseline: bool = False,
    markers: bool = True,
) -> None:
    """Say what lines are of: in an empty panel if there is one, else above all panels.

    Args:
        figure: that the lines are in.
        spare: the empty panel.
        looks: of the methods that are drawn.
        baseline: whether the models as they came are drawn, too.
        markers: whether lines have them.
    """
    from matplotlib.lines import Line2D

    listed = {"pre-trained": BASELINE_LOOK} if baseline else {}
    listed |= {shown(method): look for method, look in looks.items()}
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.line, marker=look.marker * markers)
        for look in listed.values()
    ]
    if spare is not None:
        spare.legend(handles, list(listed), loc="center")
    else:
        figure.legend(handles, list(listed), loc="outside upper center", ncols=min(6, len(listed)))


def epoch_axis(axes: Axes, last: int, first: int = 1) -> None:
    """Mark whole epochs, from the first to the last."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.set_xlim(first - (0.2 if last > first else 0.5), last + 0.2)


def wrapped(name: str, width: int) -> str:
    """Break a name into lines of so many characters, if it can be, at its dots and dashes."""
    lines = [""]
    for part in re.findall(r"[^ ._/-]*[ ._/-]?", name):
        if lines[-1] and part and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def shown(name: str) -> str:
    """Return a name as one line of text."""
    return " ".join(name.split()) or "(unnamed)"
