"""Answers with the folder of a result as a ZIP archive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from functools import partial
from urllib.parse import quote

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dna_pipeline.interfaces.web.files import in_file_thread, report_without_paths
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving import result_archive


async def send_archive(site: Site, job_id: str, name: str) -> StreamingResponse:
    """Answer with the archive of a job's folder.

    Args:
        job_id: the whole id.
        name: name of the job's image.

    Raises:
        NoSuchFile: there is nothing to send.
    """
    files = await in_file_thread(result_archive.find_files, site.config, site.readers, job_id)
    folder = result_archive.archive_name(name, job_id)
    return ArchiveResponse(
        folder, result_archive.archive(folder, files, partial(report_without_paths, site))
    )


class ArchiveResponse(StreamingResponse):
    """A response whose pieces are made in threads as the client takes them.

    Args:
        folder: name of the archive without its ending.
    """

    def __init__(self, folder: str, pieces: Generator[bytes, None, None]) -> None:
        plain = folder.encode("ascii", "replace").decode().replace("?", "_")
        headers = {
            "content-disposition": f'attachment; filename="{plain}.zip"; '
            f"filename*=UTF-8''{quote(folder, safe='')}.zip",
            "x-content-type-options": "nosniff",
        }
        self._pieces = pieces
        self._sending = self._send()
        super().__init__(self._sending, media_type="application/zip", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the archive; if the client leaves, all files are closed."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._sending.aclose()
                await in_file_thread(self._pieces.close)

    async def _send(self) -> AsyncGenerator[bytes]:
        while (piece := await in_file_thread(self._next)) is not None:
            if piece:
                yield piece

    def _next(self) -> bytes | None:
        return next(self._pieces, None)
