"""Data: batches, datasets, loaders, and the streams made of them."""

from .abstract_dataset import AbstractDataset, get_stream
from .base_dataset import BaseDataset
from .batch import Batch
from .collate import collate
from .column_dataset import ColumnDataset
from .files.file_columns import FileColumns
from .files.file_dataset import FileDataset
from .multi_task_dataset import MultiTaskDataset
from .stream_wrapper import StreamWrapper
from .task_loader import TaskLoader
from .task_stream import TaskStream

__all__ = [
    "AbstractDataset",
    "BaseDataset",
    "Batch",
    "ColumnDataset",
    "FileColumns",
    "FileDataset",
    "MultiTaskDataset",
    "StreamWrapper",
    "TaskLoader",
    "TaskStream",
    "collate",
    "get_stream",
]
