"""Numbers: how far ages are off, intervals, where the locator looked."""
