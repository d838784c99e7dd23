"""Keeps tests away from the data and the settings of whoever runs them; loaded first by pytest."""

import atexit
import os
import shutil
import tempfile

from mini_dropbox.env import PREFIX

for name in [name for name in os.environ if name.startswith(PREFIX)]:
    del os.environ[name]

_folder = tempfile.mkdtemp(prefix="mini-dropbox-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ[f"{PREFIX}DATA_DIR"] = _folder
os.environ[f"{PREFIX}CLUSTER_SECRET"] = "the secret of the tests"
