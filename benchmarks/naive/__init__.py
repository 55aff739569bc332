"""The embedded suite's grid as one would script it: a process per cell, that does all by itself."""
