"""Text that may be anybody's, for a terminal and for Markdown: shown, and never acted on."""

from __future__ import annotations


def visible(text: str) -> str:
    """Return text with its control characters as escapes, as Python writes them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def inert(text: str) -> str:
    """Return text that Markdown, and the HTML in it, shows as it is, on one line."""
    shown = visible(text)
    for character in "\\`*_[]<>|&#":
        shown = shown.replace(character, f"\\{character}")
    return shown
