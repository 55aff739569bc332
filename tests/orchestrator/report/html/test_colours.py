"""Colours are measured as the browser paints them: ink is readable, and so are scales to everyone.

Contrast is WCAG 2.2's; text needs 4.5. Colour blindness is simulated with the matrices of Machado,
Oliveira and Fernandes 2009 (IEEE Transactions on Visualization and Computer Graphics 15:1291-1298,
table 1, severity 1.0) in linear RGB; differences are CIE 1976 Delta E, of which 2 is just seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]
Floats = NDArray[np.float64]

MACHADO = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}

TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]

PAINTED = """colours => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return colours.map((colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  });
}"""

SCALE = """([side, shares]) => {
  const cell = document.createElement("td");
  cell.className = "tint";
  cell.dataset.side = side;
  document.querySelector("#board tr[data-method]").append(cell);
  const found = shares.map((share) => {
    cell.style.setProperty("--share", `${share}%`);
    const style = getComputedStyle(cell);
    return [style.backgroundColor, style.color];
  });
  cell.remove();
  return found;
}"""


INK = "selector => getComputedStyle(document.querySelector(selector)).color"

RESOLVED = """names => {
  const probe = document.body.appendChild(document.createElement("i"));
  const found = names.map((name) => {
    probe.style.color = name;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return found;
}"""


def painted(page: Page, colours: list[str]) -> Floats:
    """Return what colours look like on the screen: (k, 3) of sRGB from 0 to 1."""
    pixels = np.array(page.evaluate(PAINTED, colours), dtype=np.float64)
    assert (pixels[:, 3] == 255).all(), "a colour is transparent"
    return np.asarray(pixels[:, :3] / 255)


def linear(rgb: Floats) -> Floats:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(rgb: Floats) -> Floats:
    return linear(rgb) @ np.array([0.2126, 0.7152, 0.0722])


def contrast(one: Floats, other: Floats) -> Floats:
    lighter, darker = (
        np.maximum(luminance(one), luminance(other)),
        np.minimum(luminance(one), luminance(other)),
    )
    return np.asarray((lighter + 0.05) / (darker + 0.05))


def lab(rgb: Floats, sight: str) -> Floats:
    """Return CIE L*a*b* (D65) of what an eye sees."""
    seen = np.clip(linear(rgb) @ np.array(MACHADO[sight]).T, 0, 1)
    xyz = seen @ np.array(TO_XYZ).T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


def scale(page: Page, side: str, shares: list[float]) -> tuple[Floats, Floats]:
    """Return the grounds and the ink of a scale at some shares of its length."""
    pairs = page.evaluate(SCALE, [side, shares])
    return painted(page, [one for one, _ in pairs]), painted(page, [ink for _, ink in pairs])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours(theme: str, report: Path, open_page: Open) -> None:
    page = open_page(report, color_scheme=theme)
    shares = [float(share) for share in range(0, 101, 2)]
    grounds = {}
    for side in ("above", "below", "amount"):
        grounds[side], ink = scale(page, side, shares)
        assert contrast(grounds[side], ink).min() >= 4.5, side

    # Lightness alone tells more from less, for any eye.
    for sight in MACHADO:
        lightness = lab(grounds["amount"], sight)[:, 0]
        steps = np.diff(lightness) * (-1 if theme == "light" else 1)
        assert steps.min() > -0.35, sight  # a pixel is a whole number from 0 to 255
        assert abs(lightness[-1] - lightness[0]) > 25, sight

    # A loss is told from a gain of the same size, and a large one from a small one.
    for sight in MACHADO:
        above, below = lab(grounds["above"], sight), lab(grounds["below"], sight)
        apart = np.linalg.norm(above - below, axis=1)
        assert apart[0] == 0
        assert (np.diff(apart) > -1.5).all(), sight
        assert apart[shares.index(20)] > 4, sight
        assert apart[-1] > 35, sight
        for side in (above, below):
            assert np.linalg.norm(side[-1] - side[0]) > 25, sight

    # All text, as it stands on the page.
    paper = painted(page, [page.evaluate("getComputedStyle(document.body).backgroundColor")])
    for selector in (
        "body",
        ".about",
        ".board thead th button",
        ".board .model small",
        "#board summary",
        ".notes",
        "footer a, footer",
        ".entry",
    ):
        colour = page.evaluate(INK, selector)
        assert colour, selector
        assert contrast(painted(page, [colour]), paper)[0] >= 4.5, selector

    # Lines need 3, and are told apart where there are no more than eight.
    names = [f"var(--series-{k})" for k in range(8)]
    lines = painted(page, page.evaluate(RESOLVED, [*names, "var(--before)"]))
    assert contrast(lines, paper).min() >= 3
    for sight in MACHADO:
        seen = lab(lines, sight)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 1000 * np.eye(len(seen))
        assert apart.min() > 10, sight


def test_the_simulation_leaves_greys_alone() -> None:
    greys = np.array([[0.2] * 3, [0.5] * 3, [1.0] * 3])
    for sight in MACHADO:
        np.testing.assert_allclose(lab(greys, sight)[:, 1:], 0, atol=0.6)
    np.testing.assert_allclose(lab(np.ones((1, 3)), "normal")[0], [100, 0, 0], atol=0.05)
    assert contrast(np.zeros(3), np.ones(3)) == pytest.approx(21)
