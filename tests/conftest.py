"""Fixtures and settings that every test file may use: make test."""
