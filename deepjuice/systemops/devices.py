"""Import path of users' scripts; the functions live in `deepjuice.devices`."""

from deepjuice.devices import cuda_device_report, get_device_id, get_device_name

__all__ = ["cuda_device_report", "get_device_id", "get_device_name"]
