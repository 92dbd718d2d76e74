"""What a trained model says: of files, of a split, and as a graph for other runtimes."""
