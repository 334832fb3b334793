"""The cluster of these tests, started once; where there can be none they are skipped and say why."""

import shutil
import tempfile

import pytest

from tests.cluster.slurm_box import NoSlurm, SlurmBox, install


@pytest.fixture(scope="session")
def box():
    folder = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")  # a short name: sockets lie in it
    box = SlurmBox(folder)
    try:
        install()
        box.start()
        yield box
    except NoSlurm as error:
        pytest.skip(str(error))
    finally:
        box.stop()
        shutil.rmtree(folder)
