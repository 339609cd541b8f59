"""Providers: one package per kind. Only these packages know a vendor; each gives the `Provider` of `gateway.domain.provider`."""
