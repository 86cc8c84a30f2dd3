"""Where imports go: the music databases that come with the library."""
