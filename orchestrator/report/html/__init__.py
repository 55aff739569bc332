"""The report as one self-contained HTML file. Computes nothing."""

from orchestrator.report.html.page import render

__all__ = ["render"]
