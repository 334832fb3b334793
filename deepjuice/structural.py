"""Import path of users' scripts; the function lives in `deepjuice.frames`."""

from deepjuice.frames import flatten_nested_list

__all__ = ["flatten_nested_list"]
