"""Tells which of many files have grown, by Linux's inotify; what is in them is others'.

Costs nothing while nobody writes: forty silent dynos are no work at all.
"""

import asyncio
import ctypes
import os
import struct
from pathlib import Path

PAUSE = 0.05  #: seconds in which what grows is gathered, so that a busy writer wakes us seldom
_MODIFY = 0x02
_ATTRIB = 0x04  #: among others, that a name of the file was taken away
_OVERFLOW = 0x4000
_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")
_READ = 64 * 1024


class Watch:
    """Files by a key of the caller's; `grown` says the keys of those that were written to."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = -1
        self._keys: dict[int, str] = {}
        self._files: dict[str, Path] = {}
        self._grown: set[str] = set()
        self._growth = asyncio.Event()

    def open(self) -> None:
        self._inotify = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        asyncio.get_running_loop().add_reader(self._inotify, self._read)

    def close(self) -> None:
        if self._inotify >= 0:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def add(self, key: str, file: Path) -> None:
        """Another file that takes this one's name is watched in its place."""
        self._files[key] = file
        self._keys[self._checked(self._add(file))] = key
        # It may have grown before we looked.
        self._tell({key})

    def _add(self, file: Path) -> int:
        mask = ctypes.c_uint32(_MODIFY | _ATTRIB)
        watch: int = self._libc.inotify_add_watch(self._inotify, os.fsencode(file), mask)
        return watch

    async def grown(self) -> frozenset[str]:
        await self._growth.wait()
        await asyncio.sleep(PAUSE)
        self._growth.clear()
        grown = frozenset(self._grown)
        self._grown.clear()
        return grown

    def _read(self) -> None:
        data = os.read(self._inotify, _READ)
        offset = 0
        while offset < len(data):
            watch, mask, _cookie, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + length
            if mask & _OVERFLOW:
                self._tell(set(self._keys.values()))
            elif watch in self._keys:
                key = self._keys[watch]
                if mask & _ATTRIB and (again := self._add(self._files[key])) >= 0:
                    self._keys[again] = key
                if mask & _IGNORED:  # the kernel has forgotten the file: it is deleted
                    del self._keys[watch]
                    if key not in self._keys.values():
                        del self._files[key]
                self._tell({key})

    def _tell(self, keys: set[str]) -> None:
        self._grown |= keys
        self._growth.set()

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
