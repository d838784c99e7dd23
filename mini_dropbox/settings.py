"""Django's settings for both roles. What the environment says is read by `mini_dropbox.env`."""

import secrets
from pathlib import Path
from typing import Any

from django.urls import reverse_lazy

from mini_dropbox import __version__, env, logs, secret_files
from mini_dropbox.admin_theme import UNFOLD as UNFOLD  # noqa: PLC0414  A setting like those below.

ENV = env.read()
BASE_DIR = env.PROJECT_DIR
MASTER_DIR: Path = ENV.data_dir / "master"

DEBUG = ENV.debug
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = list(ENV.allowed_hosts) or ["localhost", "127.0.0.1", "[::1]"]
LOGGING = logs.configuration(ENV)
APPEND_SLASH = False

# The one place where the two roles part: everything else asks the settings made here.
if ENV.role is env.Role.MASTER:
    ROOT_URLCONF = "mini_dropbox.urls_master"
    ASGI_STACK = "mini_dropbox.asgi_master.build"
    SECRET_KEY = ENV.secret_key or secret_files.read_or_create(MASTER_DIR / "secret_key")[0]
    DATABASES: dict[str, dict[str, Any]] = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": MASTER_DIR / "db.sqlite3",
            # A connection stays with its thread, which the next request gets (request_threads.py).
            "CONN_MAX_AGE": 60,
            "OPTIONS": {
                # WAL with synchronous=FULL survives a power cut; NORMAL loses acknowledged
                # commits. IMMEDIATE takes the write lock at BEGIN, where waiting is possible;
                # a read that turns into a write later fails at once with "database is locked".
                "transaction_mode": "IMMEDIATE",
                "timeout": 10,
                "init_command": (
                    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;"
                ),
            },
        }
    }
    INSTALLED_APPS = [
        "mini_dropbox",
        "unfold",
        "unfold.contrib.filters",
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "whitenoise.runserver_nostatic",
        "django.contrib.staticfiles",
        "django.contrib.humanize",
        "django_filters",
        "django_htmx",
        "rest_framework",
        "drf_spectacular",
        "drf_spectacular_sidecar",
        "master_app",
        "seedream_app",
    ]
    MIDDLEWARE = [
        "django.middleware.security.SecurityMiddleware",
        "mini_dropbox.static_files.StaticFilesMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "mini_dropbox.origins.refuse_foreign_origins",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django_htmx.middleware.HtmxMiddleware",
        "mini_dropbox.views.DatabaseFailures",
    ]
    # What every upload waits for is answered before Django.
    ASGI_FRONT = "master_app.api.quick_registrations.QuickRegistrations"
    # What runs beside the requests, in a daemon thread each: callables that take a threading.Event
    # and return soon after it is set.
    STARTUP_TASKS = [
        "seedream_app.resumption.watch_jobs",
        "master_app.repair.repairer.repair_loop",
        "master_app.collection.collector.collect_loop",
        "master_app.adoption.reconciling.reconcile_loop",
        "master_app.adoption.loop.adopt_loop",
    ]
else:
    ROOT_URLCONF = "mini_dropbox.urls_node"
    ASGI_STACK = "mini_dropbox.asgi_node.build"
    # A node signs nothing with it: sessions, cookies and forms live on the master.
    SECRET_KEY = ENV.secret_key or secrets.token_urlsafe(50)
    DATABASES = {}
    INSTALLED_APPS = ["mini_dropbox", "rest_framework", "node_app"]
    MIDDLEWARE = [
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                *(
                    [
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                    if DATABASES
                    else []
                ),
            ]
        },
    }
]

STATIC_URL = "/static/"
# The files are served from where the packages keep them, so there is no collecting step to forget.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600
WHITENOISE_ALLOW_ALL_ORIGINS = False

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = reverse_lazy("admin:index")
# Two clusters on one host differ by port alone, and cookies do not: each has its own names.
SESSION_COOKIE_NAME = "mini_dropbox_session"
CSRF_COOKIE_NAME = "mini_dropbox_csrf"

# A form may hold two reference images of 10 MB; bytes beyond 2.5 MB go to temporary files.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FILES = 4

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["mini_dropbox.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": None,
    "EXCEPTION_HANDLER": "mini_dropbox.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Mini-Dropbox master",
    "DESCRIPTION": (
        "Files, blobs and nodes of one Mini-Dropbox cluster. Bytes go straight to the nodes, whose "
        "addresses `/api/v1/nodes/` lists: `POST /upload` with the file in the form field `file`, "
        "and `GET /retrieve?hash=`."
    ),
    "TAGS": [
        {"name": "Files", "description": "Announce, look up and list files."},
        {"name": "Images", "description": "Generate images from words."},
        {"name": "Browse", "description": "Lists to filter, search and page through."},
        {"name": "Repair", "description": "Which blobs have too few copies, and what is done."},
        {"name": "Collection", "description": "What was deleted and is still on disk."},
        {"name": "Health"},
    ],
    "VERSION": __version__,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
