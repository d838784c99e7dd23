"""The one entry point of both roles: `mini_dropbox.asgi:application`."""

import os

import django
from django.conf import settings
from django.utils.module_loading import import_string

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mini_dropbox.settings")
django.setup(set_prefix=False)

application = import_string(settings.ASGI_STACK)()
