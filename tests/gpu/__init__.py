"""Tests that only a device can pass. A package, so that its conftest does not hide the one above it."""
