"""The chaos test: a grid on a cluster whose parts are killed, frozen, filled up and cut short.

`python -m tests.chaos --faults 200 --seed 7`. See docs/reliability.md.
"""
