"""Work that one process does at a time, however many masters share the database."""

import os
import secrets
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.db.models import Q
from django.utils import timezone

from master_app.models import Lease

# What a killed master had in hand is taken up by the next one, or by itself, after this long.
LEASE_SECONDS: Final = 10.0


class HeldLease:
    """One process's claim to a lease. Masters' clocks may differ by a few seconds."""

    def __init__(self, name: str, seconds: float = LEASE_SECONDS) -> None:
        self._name = name
        self._length = timedelta(seconds=seconds)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def hold(self, state: Mapping[str, Any]) -> bool:
        """Take the lease or keep it for a while; False while another process has it.

        What `state` says is kept with it, for everybody to read.
        """
        now = timezone.now()
        claim = {"holder": self._holder, "expires_at": now + self._length, "state": dict(state)}
        # A lease that ends later than one can was taken before the clock was set back.
        is_free = Q(expires_at__lte=now) | Q(expires_at__gt=now + 2 * self._length)
        mine_or_free = Lease.objects.filter(Q(holder=self._holder) | is_free, name=self._name)
        if mine_or_free.update(**claim):
            return True
        lease, _ = Lease.objects.get_or_create(name=self._name, defaults=claim)
        return lease.holder == self._holder

    def release(self) -> None:
        """Let the next process have it at once."""
        Lease.objects.filter(name=self._name, holder=self._holder).update(expires_at=timezone.now())
