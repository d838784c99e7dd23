"""What the pages of all records that the cluster itself writes have in common."""

from collections.abc import Sequence
from typing import Any, Final

from django.contrib.admin import ShowFacets
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

# Further down a list is reached by a filter, a search or the other order: the database would have
# to walk over all the rows before.
MAX_PAGED_ROWS: Final = 10_000
# A filter or a search may fit few rows among very many, and to count them is to look at all.
MAX_FOUND_ROWS: Final = 1_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # Generic only in the stubs.
    """Pages through the first rows of a list; `known_rows` is how many it has, where that is known.

    `is_cut` tells that there are more rows than pages for them.
    """

    template_name = "admin/master_app/pagination.html"

    def __init__(
        self, rows: QuerySet[Any], per_page: int, *options: Any, known_rows: int | None = None
    ) -> None:
        super().__init__(rows, per_page, *options)
        self.known_rows = known_rows
        self._limit = MAX_FOUND_ROWS if rows.query.has_filters() else MAX_PAGED_ROWS
        self._rows = rows

    @cached_property
    def _found(self) -> int:
        if self.known_rows is not None:
            return self.known_rows
        return self._rows.order_by().values("pk")[: self._limit + 1].count()

    @property
    def count(self) -> int:
        return min(self._found, self._limit)

    @property
    def is_cut(self) -> bool:
        return self._found > self._limit


class NewestFirstChangeList(ChangeList):
    """A list whose page itself says how many rows there are, at its foot."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Otherwise the heading says it, too, and as if the rows with pages were all.
        self.full_result_count = self.result_count


class SystemOwnedAdmin(ModelAdmin):
    """Shows records that nodes and clients make through the API; nobody edits them here."""

    show_full_result_count = False
    # Facets would count all rows once for each choice of each filter.
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50
    list_fullwidth = True
    actions: Sequence[str] = ()

    def row_count(self) -> int | None:
        """Return how many rows there are, where nothing has to be counted for it."""
        return None

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Any], per_page: int, *options: Any
    ) -> BoundedPaginator:
        known = None if queryset.query.has_filters() else self.row_count()
        return BoundedPaginator(queryset, per_page, *options, known_rows=known)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NewestFirstChangeList
