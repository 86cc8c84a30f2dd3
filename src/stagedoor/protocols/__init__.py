"""Wires as codecs without I/O: values in, values out. A server does the reading, the writing and the waiting."""
