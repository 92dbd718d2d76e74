"""How processes run: distribution, signals, tracking, callbacks, checkpoint files."""
