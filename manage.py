#!/usr/bin/env python3
"""Mini-Dropbox's command line: Django's, with `--role master|node` in front of any command."""

import sys

from mini_dropbox import commandline

if __name__ == "__main__":
    commandline.main(sys.argv)
