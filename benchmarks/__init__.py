"""Evaluation: the protocol, the episode loop, the baseline agents, the statistics and the page."""
