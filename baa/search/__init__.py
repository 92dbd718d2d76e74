"""W&B sweep files, run on this machine without W&B."""
