"""Distances between data sets in the feature space of a model."""
