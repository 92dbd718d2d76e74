"""Radiographs on disk to batches on the device."""
