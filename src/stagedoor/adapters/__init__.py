"""Adapters: the ports on a local directory and in memory."""
