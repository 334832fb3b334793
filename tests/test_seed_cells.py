"""The cells of the batched-feature-maps tutorial, run as a user would type them; only the device is the CPU."""

import pytest
import torch
from torchvision import models

from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.synthetic.mini import make_mini


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """A small NSD-like benchmark under JUICYFRUITS_DATA, and AlexNet weights placed by hand (random ones)."""
    folder = tmp_path_factory.mktemp("seed")
    make_mini(folder / "raw", n_shared=162, n_unique=2, n_subjects=1, n_repeats=1, n_sessions=1, picture_size=64)
    prepare_nsd(folder / "raw", folder / "data" / "nsd")
    place = folder / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(models.alexnet(weights=None).state_dict(), place / "alexnet-owt-7be5be79.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUICYFRUITS_DATA", str(folder / "data"))
        patch.setenv("TORCH_HOME", str(folder / "torch"))
        yield


CELLS = """
from deepjuice import *
from juicyfruits import NSDBenchmark
benchmark = NSDBenchmark()
model_uid = 'torchvision_alexnet_imagenet1k_v1'
model, preprocess = get_deepjuice_model(model_uid)
image_subset = benchmark.image_paths[:160]
dataloader = get_data_loader(image_subset, preprocess, batch_size=64)
devices = {'device': 'cpu', 'output_device': 'cpu'}
feature_map_list = get_feature_maps(model, dataloader, **devices,
                                   batch_strategy='list')
print(feature_map_list)
batch_one_maps = feature_map_list[0]
for uid, feature_map in batch_one_maps.items():
    if 'Linear' in uid:
        print(uid, [x for x in feature_map.shape])
print('\\n Number of inputs:', batch_one_maps.get_input_size())
from deepjuice.extraction import BatchedFeatureMaps
batched_maps = BatchedFeatureMaps(feature_map_list)
print(batched_maps)
print(batched_maps.get_irregular_shapes())
extractor = FeatureExtractor(model, dataloader, **devices,
                             batch_strategy='stack',
                             max_memory_limit='16GB')
for batched_feature_maps in tqdm(extractor, 'Global Progress'):
    feature_maps = batched_feature_maps.join_batches()
    for uid, feature_map in feature_maps.items():
        if 'Linear' in uid:
            print(uid, [x for x in feature_map.shape])
extractor.modify_settings(flatten=True)
for batched_feature_maps in tqdm(extractor, 'Global Progress'):
    feature_maps = batched_feature_maps.join_batches()
    for uid, feature_map in feature_maps.items():
        if 'Conv2d' in uid:
            print(uid, [x for x in feature_map.shape])
"""

# What the tutorial prints; the device's name and the memory limit are this run's.
PRINTED = """\
Initializing DeepJuice Benchmarks (JuicyFruits)
Loading DeepJuice NSDBenchmark:\x20
  Image Set: shared1000
  Voxel Set: ['EVC', 'OTC']
Extracting sample feature_maps with torchinfo (CPU to CPU)
Keeping 18 / 24 total maps (6 duplicates removed).
[FeatureMaps Handle
  18 maps; 64 inputs; 262.60 MB\x20
  0 maps on GPU (0 duplicates), FeatureMaps Handle
  18 maps; 64 inputs; 262.60 MB\x20
  0 maps on GPU (0 duplicates), FeatureMaps Handle
  18 maps; 32 inputs; 131.30 MB\x20
  0 maps on GPU (0 duplicates)]
Linear-2-15 [64, 4096]
Linear-2-18 [64, 4096]
Linear-2-20 [64, 1000]

 Number of inputs: 64
Batch Tensor Maps Handler
  Total Batch Count: 3
  # Total Inputs: 160
  # of Unique Feature Maps: 18
  No irregularities found.
{}
Extracting sample feature_maps with torchinfo (CPU to CPU)
FeatureExtractor Handle for AlexNet
  24 feature maps (+6 duplicates); 160 inputs
  Memory required for full extraction: 677.15 MB
  Memory usage limiting device set to: cpu
  Memory usage limit currently set to: 16.000 GB
  1 batch(es) required for current memory limit\x20
   Batch-001: 24 feature maps; 677.15 MB
Joining all regularly shaped feature_maps into a set:
Linear-2-15 [160, 4096]
Linear-2-18 [160, 4096]
Linear-2-20 [160, 1000]
Joining all regularly shaped feature_maps into a set:
Conv2d-2-1 [160, 193600]
Conv2d-2-4 [160, 139968]
Conv2d-2-7 [160, 64896]
Conv2d-2-9 [160, 43264]
Conv2d-2-11 [160, 43264]
"""


def test_the_tutorials_cells_run_and_print_what_it_shows(surroundings, capsys):
    exec(CELLS, {})
    printed = capsys.readouterr()
    assert printed.out == PRINTED
    for bar in ("Feature Extraction (DataLoader)", "Joining Batched Feature Maps", "Global Progress"):
        assert bar in printed.err
