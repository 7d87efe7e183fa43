"""Agents that Ray places."""
