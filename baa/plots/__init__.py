"""Pictures: figures and overlays."""
