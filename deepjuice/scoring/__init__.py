"""Scoring one model against one benchmark: what is asked for, the brain's side, and how sure the answers are."""
