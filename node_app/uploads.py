"""Resumable uploads that a node has begun: their files, and what is known of each.

A row in the node's database says how many bytes of an upload are durable; its file is
`uploads/<id>`. What a file has beyond its row is dropped when it is opened again, so that no
client is ever told of bytes that a power cut could take back.
"""

import json
import logging
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mini_dropbox.durability import fsync_folder
from node_app.database import NodeDatabase, wait_for
from node_app.disk import FILE_MODE, make_folder_durable, storage_errors
from node_app.errors import StoreFull, UploadNotFound
from node_app.local_blobstore import RESERVED_BYTES
from node_app.uploadfile import PrefixDigests, UploadFile

logger = logging.getLogger(__name__)

# Time without progress after which an upload is forgotten, in seconds of the node's running.
EXPIRY_SECONDS: Final = 24 * 60 * 60.0
ID_BYTES: Final = 20
PARTIAL: Final = "partial"

_SELECT: Final = """
SELECT id, length, received, name, content_type, metadata, concat, idle_seconds, stored
FROM upload WHERE id = ?
"""
_INSERT: Final = """
INSERT INTO upload (id, length, received, name, content_type, metadata, concat, idle_seconds)
VALUES (?, ?, 0, ?, ?, ?, ?, 0)
"""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One upload. Sizes in bytes; `length` is None until the client knows it.

    `offset` counts durable bytes. `metadata` and `concat` are the client's headers as they came.
    `name` and `content_type` are empty where the client named none. `stored` is what became of
    the upload, once it is a blob.
    """

    id: str
    length: int | None
    offset: int = 0
    name: str = ""
    content_type: str = ""
    metadata: str = ""
    concat: str = ""
    idle_seconds: float = 0.0
    stored: Mapping[str, Any] | None = None

    @property
    def is_partial(self) -> bool:
        """Whether it is a part of another upload, and no blob by itself."""
        return self.concat == PARTIAL

    @property
    def is_complete(self) -> bool:
        return self.offset == self.length

    @property
    def awaits_storing(self) -> bool:
        """Whether all bytes are here and have still to become a blob."""
        return self.is_complete and not self.is_partial and self.stored is None


class UploadStore:
    """The table `upload` and the folder `uploads`. Every call may block.

    StoreFull or StoreFailed when the disk cannot do what is asked. Calls for one upload must not
    overlap, but for `checkpoint` with writing; see `turns.py`.
    """

    def __init__(self, folder: Path, database: NodeDatabase) -> None:
        self._folder = folder / "uploads"
        self._database = database
        # The digests of what has come in, as long as this process lives.
        self._prefixes: dict[str, PrefixDigests] = {}
        make_folder_durable(self._folder)
        self._reconcile()

    def create(
        self,
        *,
        length: int | None,
        name: str = "",
        content_type: str = "",
        metadata: str = "",
        concat: str = "",
    ) -> Upload:
        """Begin an upload; StoreFull at once when `length` bytes have no room."""
        self._check_room(length or 0)
        upload = Upload(
            id=secrets.token_hex(ID_BYTES),
            length=length,
            name=name,
            content_type=content_type,
            metadata=metadata,
            concat=concat,
        )
        with storage_errors():
            path = self._path(upload.id)
            path.touch(mode=FILE_MODE, exist_ok=False)
            # For the times when a umask says otherwise.
            path.chmod(FILE_MODE)
            fsync_folder(self._folder)
        self._write(_INSERT, (upload.id, length, name, content_type, metadata, concat))
        return upload

    def get(self, upload_id: str) -> Upload:
        """Return what is known of an upload; UploadNotFound when that is nothing."""
        rows = self._database.read(_SELECT, (upload_id,))
        if not rows:
            raise UploadNotFound("There is no such upload, or it has expired; begin anew.")
        (row,) = rows
        return Upload(
            id=row[0],
            length=row[1],
            offset=row[2],
            name=row[3],
            content_type=row[4],
            metadata=row[5],
            concat=row[6],
            idle_seconds=row[7],
            stored=None if row[8] is None else json.loads(row[8]),
        )

    def open(self, upload: Upload) -> UploadFile:
        """Open an upload's file to write on, or to store it."""
        prefix = None
        if not upload.is_partial:
            known = self._prefixes.get(upload.id)
            # Without them this process has not seen the beginning, and beyond the offset it has
            # seen more than became durable; the file is hashed again then, in the end.
            usable = known if known is not None and known.size <= upload.offset else None
            prefix = usable.copy() if usable is not None else PrefixDigests()
        return UploadFile(self._path(upload.id), upload.offset, prefix)

    def checkpoint(self, upload: Upload, file: UploadFile) -> Upload:
        """Make what `file` has durable, then the row that tells of it.

        StoreFull, after that, when the disk has no room for more than the node's own records.
        """
        reached = replace(upload, offset=file.sync(), idle_seconds=0.0)
        if file.prefix is not None:
            self._prefixes[upload.id] = file.prefix
        sql = "UPDATE upload SET received = ?, length = ?, idle_seconds = 0 WHERE id = ?"
        self._write(sql, (reached.offset, reached.length, upload.id))
        if not reached.is_complete:
            self._check_room(0)
        return reached

    def concatenate(self, upload: Upload, file: UploadFile, parts: Sequence[Upload]) -> Upload:
        """Put the parts' bytes into a new, empty upload's `file`; they stay as they are.

        StoreFailed soon after `file` was closed meanwhile; the upload may even be removed then.
        """
        # Nothing is hashed on the way; what is noted here could outlive a removed upload.
        file.prefix = None
        for part in parts:
            try:
                file.append_file(self._path(part.id), part.offset)
            except FileNotFoundError:
                raise UploadNotFound("A part of the upload has just expired.") from None
        return self.checkpoint(upload, file)

    def finish(self, upload: Upload, stored: Mapping[str, Any]) -> Upload:
        """Note what became of an upload, then drop its own name for the bytes."""
        sql = "UPDATE upload SET stored = ?, idle_seconds = 0 WHERE id = ?"
        self._write(sql, (json.dumps(stored), upload.id))
        self._forget(upload.id)
        return replace(upload, stored=stored, idle_seconds=0.0)

    def remove(self, upload_id: str) -> None:
        """Forget an upload and its bytes; a blob that it has become stays."""
        self._write("DELETE FROM upload WHERE id = ?", (upload_id,))
        self._forget(upload_id)

    def open_count(self) -> int:
        """Return how many uploads have not become blobs yet."""
        ((count,),) = self._database.read("SELECT COUNT(*) FROM upload WHERE stored IS NULL")
        return int(count)

    def age(self, seconds: float) -> None:
        """Add `seconds` without progress to every upload.

        Counted, rather than read off the clock: a clock that jumps expires nothing early.
        """
        self._write("UPDATE upload SET idle_seconds = idle_seconds + ?", (seconds,))

    def expired(self) -> list[str]:
        """Return the ids of the uploads without progress for EXPIRY_SECONDS."""
        sql = "SELECT id FROM upload WHERE idle_seconds >= ?"
        return [row[0] for row in self._database.read(sql, (EXPIRY_SECONDS,))]

    def _path(self, upload_id: str) -> Path:
        return self._folder / upload_id

    def _forget(self, upload_id: str) -> None:
        self._prefixes.pop(upload_id, None)
        with storage_errors():
            self._path(upload_id).unlink(missing_ok=True)

    def _check_room(self, size: int) -> None:
        with storage_errors():
            free = shutil.disk_usage(self._folder).free
        if size + RESERVED_BYTES > free:
            raise StoreFull("The disk has no room for this; free some space and try again.")

    def _reconcile(self) -> None:
        """Drop files without a row, and rows whose bytes are not there, after a crash."""
        sql = "SELECT id, received FROM upload WHERE stored IS NULL"
        rows: dict[str, int] = dict(self._database.read(sql))
        sizes = {path.name: path.stat().st_size for path in self._folder.iterdir()}
        for name in sizes.keys() - rows.keys():
            self._path(name).unlink()
        for upload_id, received in rows.items():
            if sizes.get(upload_id, -1) < received:
                logger.warning("The upload %s has lost its file and is forgotten", upload_id)
                self.remove(upload_id)

    def _write(self, sql: str, parameters: Sequence[object]) -> None:
        wait_for(self._database.write(sql, parameters))
