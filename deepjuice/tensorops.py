"""Import path of users' scripts; the functions live in `deepjuice.tensors`."""

from deepjuice.tensors import apply_tensor_op, convert_to_tensor

__all__ = ["apply_tensor_op", "convert_to_tensor"]
