"""Slice-based learning: heads of their own for rows that matter, and attention over them."""

from .add_slice_labels import add_slice_labels
from .slice_heads import SliceHeads
from .slice_tasks import slice_tasks
from .slicing_function import SlicingFunction, slicing_function

__all__ = ["SliceHeads", "SlicingFunction", "add_slice_labels", "slice_tasks", "slicing_function"]
