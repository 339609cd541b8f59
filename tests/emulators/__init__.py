"""Emulators of the services that the gateway talks to."""
