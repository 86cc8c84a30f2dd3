"""The program of the decoder's child processes. See `main`."""
