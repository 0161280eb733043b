"""The commands of `gwclient`; with cli.py the only place that prints, reads the environment, or exits."""
