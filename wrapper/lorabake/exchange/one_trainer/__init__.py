"""Configurations of OneTrainer."""
