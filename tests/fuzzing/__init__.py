"""Random inputs, and what must hold for each of them. Tests run a short seeded slice; each module runs for as long as asked."""
