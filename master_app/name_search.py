"""Finds files by a part of their name, and by a whole hash, without reading every name."""

import unicodedata
from collections.abc import Sequence
from typing import Final

from django.db.models import BigIntegerField, F, Q, QuerySet
from django.db.models.expressions import RawSQL

from master_app import derived
from master_app.models import Blob, File
from mini_dropbox.wire import MAX_NAME_CHARACTERS, RECORD_HASH_PATTERN

# Shorter texts are in no index; most of them are in so many names that a page fills soon.
TRIGRAM_CHARACTERS: Final = 3
NEWEST_FOUND: Final = F("found_key").desc()


def files_named(files: QuerySet[File], texts: Sequence[str]) -> QuerySet[File]:
    """Return the files whose name contains every text, in either case; annotated `found_key`.

    Order by NEWEST_FOUND, the newest first as they were registered: that is the index's own order,
    and for any other all that is found would have to be gathered before the first row is known.
    """
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    if any(len(text) > MAX_NAME_CHARACTERS or "\0" in text for text in texts):
        return files.none().annotate(found_key=F("pk"))
    for text in texts:
        files = files.filter(name__icontains=text)
    indexed = [text for text in texts if len(text) >= TRIGRAM_CHARACTERS]
    if not indexed or not derived.names_are_indexed():
        return files.annotate(found_key=F("pk"))
    # The index is no table that the ORM knows, or every backup through it would hold it, too.
    names, table = derived.NAMES, File._meta.db_table
    where = [f"{names}.rowid = {table}.id", f"{names} MATCH %s"]
    files = files.extra(tables=[names], where=where, params=[_query(indexed)])  # noqa: S610
    return files.annotate(found_key=RawSQL(f"{names}.rowid", (), BigIntegerField()))  # noqa: S611


def files_found(files: QuerySet[File], texts: Sequence[str]) -> QuerySet[File]:
    """Return the files for which each text is in the name or is the hash; as `files_named`."""
    in_names = []
    for text in texts:
        blob = _blob_with(text)
        if blob is None:
            in_names.append(text)
        else:
            files = files.filter(Q(blob=blob) | _in_name(text))
    return files_named(files, in_names)


def _in_name(text: str) -> Q:
    """Return that the name contains this text; one of several conditions, unlike `files_named`."""
    named = Q(name__icontains=text)
    if len(text) < TRIGRAM_CHARACTERS or not derived.names_are_indexed():
        return named
    # This asks nothing of the row that is looked at, so that SQLite runs it once for all of them.
    rows = f"SELECT rowid FROM {derived.NAMES} WHERE {derived.NAMES} MATCH %s"  # noqa: S608
    return named & Q(pk__in=RawSQL(rows, (_query([text]),)))  # noqa: S611


def _blob_with(blob_hash: str) -> Blob | None:
    if not RECORD_HASH_PATTERN.fullmatch(blob_hash):
        return None
    return Blob.objects.filter(hash=blob_hash).first()


def _query(texts: Sequence[str]) -> str:
    """Return the index's query for names that have all parts of the texts, wherever they stand."""
    last = TRIGRAM_CHARACTERS - 1
    parts = dict.fromkeys(
        text[start : start + TRIGRAM_CHARACTERS]
        for text in texts
        for start in range(len(text) - last)
    )
    return " AND ".join('"' + part.replace('"', '""') + '"' for part in parts)
