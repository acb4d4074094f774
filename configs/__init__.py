"""The settings of every verb of the command line; YAML only, read by worldmodel/cli.py."""
