"""Encoding models: features that predict the responses of every voxel."""
