"""Bone age from a hand radiograph, with the regions it looked at, learnt without a single drawn box."""
