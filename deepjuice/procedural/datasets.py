"""Import path of users' scripts; the function lives in `deepjuice.loaders`."""

from deepjuice.loaders import get_data_loader

get_image_loader = get_data_loader  # its older name

__all__ = ["get_data_loader", "get_image_loader"]
