"""Names, defaults, kinds and meaning of every setting, and how they are read."""
