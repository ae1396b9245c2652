"""The paper's research questions as commands: train the variants, measure, draw, and say what follows.

The room's door is :mod:`cpm_repro.studies.command`. This file imports nothing, so that a wrong name is
refused without torch.
"""
