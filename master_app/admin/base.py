"""What the pages of all records that the cluster itself writes have in common."""

from typing import Any

from django.contrib.admin import ShowFacets
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.views import ChangeList


class NewestFirstChangeList(ChangeList):
    """A list that counts what a filter or a search leaves, and nothing twice."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.has_active_filters and not self.query:
            # The page's heading shows how many results there are unless that is all of them.
            self.full_result_count = self.result_count


class SystemOwnedAdmin(ModelAdmin):
    """Shows records that nodes and clients make through the API; nobody edits them here."""

    show_full_result_count = False
    # Facets would count all rows once for each choice of each filter.
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50
    list_fullwidth = True
    actions = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NewestFirstChangeList
