"""Image files to radiographs. Decoding runs in a process of its own, so nothing here imports torch."""
