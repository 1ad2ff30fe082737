"""A real mount that does not answer: a FUSE file system whose server never replies.

Whoever looks at it sleeps until the mount is gone, as on a hard NFS mount without its server. Needs
Linux and the right to mount.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from contextlib import suppress
from pathlib import Path


def has_blocked_thread(process: int) -> bool:
    """Whether a thread of that process waits for such a mount, by where in the kernel it waits."""
    places = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/wchan")]
    return any("fuse" in place or place == "request_wait_answer" for place in places)


def knows_fuse() -> bool:
    """Whether this machine's kernel has FUSE at all; a device file for it can be made."""
    with suppress(OSError):
        return "\tfuse\n" in Path("/proc/filesystems").read_text()
    return False


_IN_HEADER = struct.Struct("=IIQQIIIHH")
_OUT_HEADER = struct.Struct("=IiQ")
_INIT = 26
_INIT_REPLY = struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 16, 12, 4096, 1, 1, 0, 0)
_MNT_DETACH = 2


class HangingMount:
    """Mounted over a folder it hides what lies there; taken away, it gives it back.

    Args:
        stubborn: who waits cannot even be killed, since the server has its request.
    """

    def __init__(self, place: Path, *, stubborn: bool = False) -> None:
        self.place = place
        self.stubborn = stubborn
        self._fd: int | None = None
        self._is_there = False
        self._thread: threading.Thread | None = None

    def mount(self) -> bool:
        """False where that cannot be done here."""
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if libc.mount(b"gone", os.fsencode(self.place), b"fuse", 0, options.encode()) != 0:
            os.close(fd)
            return False
        self._fd = fd
        self._is_there = True
        if self.stubborn:
            self._thread = threading.Thread(target=self._take_requests, args=(fd,), daemon=True)
            self._thread.start()
        return True

    def detach(self) -> None:
        """Give the folder back, as `umount -l` does; who waits goes on to wait."""
        if self._is_there:
            ctypes.CDLL(None).umount2(os.fsencode(self.place), _MNT_DETACH)
            self._is_there = False

    def unmount(self) -> None:
        """Let go of all who wait, with an error."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        self.detach()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        os.close(fd)

    def _take_requests(self, fd: int) -> None:
        """Answer the kernel's greeting, then read requests and answer none."""
        while self._fd == fd:
            if not select.select([fd], [], [], 0.05)[0]:
                continue
            with suppress(BlockingIOError, InterruptedError):
                try:
                    request = os.read(fd, 1 << 17)
                except OSError as error:
                    if isinstance(error, BlockingIOError | InterruptedError):
                        raise
                    return  # unmounted
                _, opcode, unique, *_ = _IN_HEADER.unpack(request[: _IN_HEADER.size])
                if opcode == _INIT:
                    size = _OUT_HEADER.size + len(_INIT_REPLY)
                    os.write(fd, _OUT_HEADER.pack(size, 0, unique) + _INIT_REPLY)
