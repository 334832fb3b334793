"""Import path of users' scripts; the functions live in `deepjuice.model_zoo`."""

from deepjuice.model_zoo import get_deepjuice_model, get_model_options

__all__ = ["get_deepjuice_model", "get_model_options"]
