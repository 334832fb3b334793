"""What the server of the tests of fetching holds: three files of one content, which may be changed to another."""

import numpy as np

DATA = np.random.default_rng(0).bytes(400_000)
NEW = np.random.default_rng(1).bytes(350_000)
KEYS = [f"nsddata/ppdata/subj0{n}/x.nii.gz" for n in (1, 2, 3)]
