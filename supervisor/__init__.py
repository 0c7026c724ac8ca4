"""Runs an app and tailscaled together in one container."""

__version__ = "0.1.0"
