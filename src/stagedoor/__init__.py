"""Uploads into a music server as an explicit, durable finite-state machine."""

__version__ = "0.1.0"
