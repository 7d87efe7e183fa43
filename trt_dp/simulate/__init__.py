"""Runs in virtual time: the dispatcher that serves real runs, with engines that are step models."""
