"""The paper's research questions as commands: train the variants, measure, draw, and say what follows."""

from cpm_repro.studies.command import STUDIES, Request, run_studies

__all__ = ["STUDIES", "Request", "run_studies"]
