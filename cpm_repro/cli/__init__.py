"""The ``cpm`` command: argument parsing only; each verb calls one function of one room."""

from cpm_repro.cli.command import command_parser, main

__all__ = ["command_parser", "main"]
