"""Settings of a run: their schema, how they are read, what does not go together."""
