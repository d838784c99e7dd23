"""System checks of the master: deployment mistakes, numbered."""
