"""Predictions of a trained model: of files, of a split, and as a graph for other runtimes."""
