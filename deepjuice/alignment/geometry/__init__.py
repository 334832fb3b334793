"""Geometry: how similar the representations of stimuli are, and of which shape."""
