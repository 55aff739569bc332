"""Clusters: starting their nodes, checking them before the first cell, sending them whole runs."""
