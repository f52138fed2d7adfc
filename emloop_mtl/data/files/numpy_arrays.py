"""Files of numpy's."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import DataError
from .mapped_array import MappedArray

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What stands before a file in an archive; the last two are the lengths of what follows before the file itself."""


class NumpyArrays:
    """The arrays of an ``.npz`` archive, or of ``.npy`` files, by name; none is unpickled.

    :param files: the archive, or name -> ``.npy`` file
    :raise DataError: for a file that is none of these
    """

    def __init__(self, files: Path | Mapping[str, Path]) -> None:
        self._files = files
        self.path = files if isinstance(files, Path) else next(iter(files.values()))
        self._members: dict[str, zipfile.ZipInfo] = {}
        if isinstance(files, Path):
            try:
                with zipfile.ZipFile(files) as archive:
                    found = {info.filename: info for info in archive.infolist()}
            except zipfile.BadZipFile as error:
                raise DataError(f"{files}: is no archive of numpy's, as numpy.savez writes it: {error}") from error
            self._members = {name.removesuffix(".npy"): info for name, info in found.items() if name.endswith(".npy")}
            if not self._members:
                raise DataError(f"{files}: holds no array")

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._files if isinstance(self._files, Mapping) else self._members)

    def is_packed(self, name: str) -> bool:
        """Whether an array must be unpacked before it can be mapped."""
        return name in self._members and self._members[name].compress_type != zipfile.ZIP_STORED

    def unpack(self, name: str, target: Path, tell: Callable[[], object]) -> None:
        """Write an array of the archive to a file, without having it in memory as a whole.

        :param tell: called again and again
        :raise DataError: if the archive is damaged, or there is no room for the array
        """
        assert isinstance(self._files, Path)
        what, info = f"{self._files}: array {name!r}", self._members[name]
        if info.compress_type != zipfile.ZIP_DEFLATED:
            raise DataError(f"{what} is compressed in another way than numpy.savez_compressed does")
        free = shutil.disk_usage(target.parent).free
        try:
            with zipfile.ZipFile(self._files) as archive, archive.open(info) as source:
                # A few bytes may unpack to any number of others.
                _check_header(source, info.file_size, what)
                if free < info.file_size:
                    room = f"{info.file_size / 1e6:,.1f} MB, but {target.parent.parent} has {free / 1e6:,.1f} MB free"
                    raise DataError(f"{what} unpacks to {room}; TMPDIR in the environment names another place")
                source.seek(0)
                with target.open("wb") as file:
                    while part := source.read(2**20):
                        tell()
                        file.write(part)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise DataError(f"{what} cannot be unpacked: {error}") from error

    def find(self, name: str, unpacked: Path | None = None) -> MappedArray:
        """Return where an array lies.

        :param unpacked: the file that ``unpack`` wrote
        :raise DataError: if it cannot be mapped
        """
        own = self._files[name] if isinstance(self._files, Mapping) else self._files
        path, what = unpacked or own, f"{own}: array {name!r}"
        with path.open("rb") as file:
            start, end = 0, path.stat().st_size
            if unpacked is None and name in self._members:
                info = self._members[name]
                if info.flag_bits & 1:
                    raise DataError(f"{what} is encrypted")
                file.seek(info.header_offset)
                header = file.read(LOCAL_HEADER.size).ljust(LOCAL_HEADER.size)
                signature, names, extra = LOCAL_HEADER.unpack(header)
                start = info.header_offset + LOCAL_HEADER.size + names + extra
                if signature != b"PK\x03\x04" or start + info.file_size > end:
                    raise DataError(f"{what}: the archive is damaged")
                end = start + info.file_size
                file.seek(start)
            shape, fortran, dtype = _check_header(file, end, what)
            return MappedArray(str(path), dtype.str, shape, file.tell(), fortran)


def _check_header(file: IO[bytes], end: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order and dtype of an array; its values come next in the file.

    :param end: where the file ends
    :param what: the array, for errors
    :raise DataError: if it cannot be mapped
    """
    try:
        shape, fortran, dtype = _read_header(file)
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"its shape is {shape}")
    except ValueError as error:
        raise DataError(f"{what}: is not as numpy.save writes it: {' '.join(str(error).split())}") from error
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects, which only unpickling reads; save numbers or texts instead")
    if dtype.names or dtype.kind not in "biufcUS" or not (dtype.isnative or dtype.itemsize == 1):
        raise DataError(f"{what} is of dtype {dtype}; save numbers or texts, in the byte order of this machine")
    if not shape:
        raise DataError(f"{what} is a single value, where one value per row is needed")
    if file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) > end:
        raise DataError(f"{what}: the file ends before the last of the values")
    return shape, fortran, dtype


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} is for arrays of named fields")
