"""The ways in which models write calls: one file for each family."""
