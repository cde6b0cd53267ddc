"""The text that the demo model learns from: all of it made here, by seeded generators."""
