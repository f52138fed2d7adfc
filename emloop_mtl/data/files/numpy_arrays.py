"""Files of numpy's."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

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
        :raise DataError: if the archive is damaged
        """
        assert isinstance(self._files, Path)
        try:
            with (
                zipfile.ZipFile(self._files) as archive,
                archive.open(self._members[name]) as source,
                target.open("wb") as file,
            ):
                while part := source.read(2**20):
                    tell()
                    file.write(part)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise DataError(f"{self._files}: array {name!r} cannot be unpacked: {error}") from error

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
                signature, names, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
                start = info.header_offset + LOCAL_HEADER.size + names + extra
                if signature != b"PK\x03\x04" or start + info.file_size > end:
                    raise DataError(f"{what}: the archive is damaged")
                end = start + info.file_size
                file.seek(start)
            try:
                shape, fortran, dtype = _read_header(file)
            except ValueError as error:
                raise DataError(f"{what}: is not as numpy.save writes it: {' '.join(str(error).split())}") from error
            offset = file.tell()
        if dtype.hasobject:
            raise DataError(f"{what} holds Python objects, which only unpickling reads; save numbers or texts instead")
        if dtype.names or dtype.kind not in "biufcUS" or not (dtype.isnative or dtype.itemsize == 1):
            raise DataError(f"{what} is of dtype {dtype}; save numbers or texts, in the byte order of this machine")
        if not shape:
            raise DataError(f"{what} is a single value, where one value per row is needed")
        if offset + dtype.itemsize * int(np.prod(shape, dtype=object)) > end:
            raise DataError(f"{what}: the file ends before the last of the values")
        return MappedArray(str(path), dtype.str, shape, offset, fortran)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} is for arrays of named fields")
