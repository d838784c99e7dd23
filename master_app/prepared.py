"""Statements that the ORM makes once: making one costs many times what SQLite takes to run it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.models.sql.compiler import SQLCompiler

Row = tuple[Any, ...]
# So many texts go into one statement; more take several.
MAX_TEXTS: Final = 512
_ON_CONNECTION: Final = "_prepared_queries"


class Placeholder(str):
    """Stands in a query for a text that is known when it runs."""

    __slots__ = ()


@dataclass(frozen=True)
class _Compiled:
    sql: str
    parameters: Sequence[Any]
    compiler: SQLCompiler
    converters: Any

    def rows(self, connection: BaseDatabaseWrapper, texts: Sequence[str]) -> list[Row]:
        given = iter(texts)
        filled = [
            next(given) if isinstance(value, Placeholder) else value for value in self.parameters
        ]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, filled)
            found = cursor.fetchall()
        return list(map(tuple, self.compiler.apply_converters(found, self.converters)))


class PreparedQuery:
    """A query by one text or by any number of them; its rows are those of `values_list`.

    `make` returns the query for the placeholders that it is given; it must use each of them once,
    in their order.
    """

    def __init__(self, make: Callable[[Sequence[str]], QuerySet[Any, Row]]) -> None:
        self._make = make

    def rows(self, *texts: str) -> list[Row]:
        """Return the rows for these texts."""
        connection = connections[DEFAULT_DB_ALIAS]
        # A compiler belongs to its connection, and a connection to its thread. Kept on the
        # connection, what is made goes with it; kept here, it would hold the connection for good.
        compiled: dict[tuple[PreparedQuery, int], _Compiled]
        compiled = vars(connection).setdefault(_ON_CONNECTION, {})
        key = (self, len(texts))
        if key not in compiled:
            compiled[key] = self._compile(connection, len(texts))
        return compiled[key].rows(connection, texts)

    def rows_in(self, texts: Iterable[str]) -> Iterator[Row]:
        """Yield the rows for any number of texts, of a query that looks for one of several."""
        wanted = list(texts)
        for first in range(0, len(wanted), MAX_TEXTS):
            some = wanted[first : first + MAX_TEXTS]
            # Repeating one finds nothing twice, and there are ten statements to make, not 512.
            size = 1 << (len(some) - 1).bit_length()
            yield from self.rows(*some, *some[:1] * (size - len(some)))

    def _compile(self, connection: BaseDatabaseWrapper, count: int) -> _Compiled:
        query = self._make([Placeholder(number) for number in range(count)]).query
        compiler = query.get_compiler(connection=connection)
        sql, parameters = compiler.as_sql()
        converters = compiler.get_converters([column[0] for column in compiler.select])
        return _Compiled(sql, list(parameters), compiler, converters)


class PreparedInsert:
    """An insert of rows, each a value for each of `fields`; what is there already stays as it is.

    "There" is said by the unique constraints; any other one that a row breaks is an error.
    """

    def __init__(self, model: type[Model], *fields: str) -> None:
        self._fields = [model._meta.get_field(name) for name in fields]
        columns = ", ".join(str(field.column) for field in self._fields)  # type: ignore[union-attr]
        places = ", ".join(["%s"] * len(fields))
        table = model._meta.db_table
        self._sql = f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608

    def run(self, rows: Iterable[Row]) -> int:
        """Insert; return how many were not there."""
        connection = connections[DEFAULT_DB_ALIAS]
        prepared = [field.get_db_prep_save for field in self._fields]  # type: ignore[union-attr]
        values = [
            [prepare(value, connection) for prepare, value in zip(prepared, row, strict=True)]
            for row in rows
        ]
        if not values:
            return 0
        with connection.cursor() as cursor:
            cursor.executemany(self._sql, values)
            return int(cursor.rowcount)
