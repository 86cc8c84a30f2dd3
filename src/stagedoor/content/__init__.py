"""Content types, the names they give to files, and the decoder that opens files for them."""
