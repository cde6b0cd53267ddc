"""From what the operator chose to a model in memory: settings, plan, load."""
