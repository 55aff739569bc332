"""The figures of a paper, as PDF and PNG. Draws what other modules have computed."""
