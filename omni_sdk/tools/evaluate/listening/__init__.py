"""Listening tests: a blind page in one file, and the scores of what raters send back."""

from omni_sdk.tools.evaluate.listening.page import ListeningTest, write_page
from omni_sdk.tools.evaluate.listening.score import AbxReport, MosReport, score_results

__all__ = ["AbxReport", "ListeningTest", "MosReport", "score_results", "write_page"]
