"""Options of `make_mini` for a brain that is made in a second."""

TINY = dict(n_shared=20, n_unique=4, n_sessions=5, volume=(7, 9, 8), picture_size=48)  # 72 trials: sessions differ
