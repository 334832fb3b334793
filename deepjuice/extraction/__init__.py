"""Feature maps of a network: kept whole, or projected into a store in one pass."""

from deepjuice.extraction.extractor import FeatureExtractor, get_feature_maps
from deepjuice.extraction.feature_maps import BatchedFeatureMaps, FeatureMaps
from deepjuice.extraction.forecast import Forecast, forecast
from deepjuice.extraction.inspection import Inspection, MapRecord, inspect_maps
from deepjuice.extraction.metadata import get_feature_map_metadata
from deepjuice.extraction.settings import MapSettings
from deepjuice.extraction.stage import extract_features
from deepjuice.extraction.store import FeatureStore

__all__ = [
    "BatchedFeatureMaps",
    "FeatureExtractor",
    "FeatureMaps",
    "FeatureStore",
    "Forecast",
    "Inspection",
    "MapRecord",
    "MapSettings",
    "extract_features",
    "forecast",
    "get_feature_map_metadata",
    "get_feature_maps",
    "inspect_maps",
]
