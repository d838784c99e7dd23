"""Blobs that are to be moved to where placement wants them, in the admin."""

from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.safestring import SafeString
from unfold.decorators import action

from master_app.admin.base import SystemOwnedAdmin
from master_app.models import MoveTask
from master_app.operations import plans, services
from master_app.templatetags import admin_display as display

LIST: Final = "admin:master_app_movetask_changelist"


@admin.register(MoveTask)
class MoveTaskAdmin(SystemOwnedAdmin):
    """What rebalancing has still to do, with what begins and what ends it."""

    list_display = ("digest", "size", "nodes", "tried", "reason")
    search_fields = ("blob__hash__exact",)
    search_help_text = "A whole hash"
    ordering = ("blob_id",)
    actions_list = ("rebalance", "cancel")

    def get_queryset(self, request: HttpRequest) -> QuerySet[MoveTask]:
        return MoveTask.objects.select_related("blob").prefetch_related("blob__replicas__node")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell whether this person may say what nodes are used for."""
        return request.user.has_perm("master_app.change_node")

    @action(description="Rebalance", url_path="rebalance", permissions=["operate"])  # type: ignore[untyped-decorator]  # Unfold says no types.
    def rebalance(self, request: HttpRequest) -> HttpResponse:
        """Show the plan, and begin when it is sent back."""
        if request.method == "POST":
            plan = services.rebalance_begin()
            if plan.obstacle:
                self.message_user(request, f"Nothing is moved: {plan.obstacle}.", messages.ERROR)
            else:
                self.message_user(request, f"{plan.blobs:,} blobs are moved when repair is done.")
            return redirect(LIST)
        return self._ask(request, "Rebalance", plan=plans.rebalance_plan())

    @action(description="Cancel", url_path="cancel", permissions=["operate"])  # type: ignore[untyped-decorator]  # As above.
    def cancel(self, request: HttpRequest) -> HttpResponse:
        """Ask, and leave the rest where it is."""
        if request.method == "POST":
            count = services.rebalance_cancel()
            self.message_user(request, f"{count:,} blobs stay where they are.")
            return redirect(LIST)
        return self._ask(request, "Cancel rebalancing", left=MoveTask.objects.count())

    def _ask(self, request: HttpRequest, title: str, **context: Any) -> HttpResponse:
        page = {**self.admin_site.each_context(request), "title": title, "list": LIST, **context}
        page["opts"] = self.opts
        return render(request, "admin/master_app/movetask/confirm.html", page)

    @admin.display(description="Blob")
    def digest(self, task: MoveTask) -> SafeString:
        return display.short_hash(task.blob.hash)

    @admin.display(description="Size")
    def size(self, task: MoveTask) -> SafeString:
        return display.size(task.blob.size)

    @admin.display(description="Nodes")
    def nodes(self, task: MoveTask) -> SafeString:
        return display.holders(task.blob)

    @admin.display(description="Failed attempts", ordering="attempts")
    def tried(self, task: MoveTask) -> str:
        return f"{task.attempts:,}"
