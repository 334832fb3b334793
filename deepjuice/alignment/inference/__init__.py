"""Inference: how well a perfect model could do, and how sure we are of a score."""
