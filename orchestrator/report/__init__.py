"""Tables, figures and pages of what `orchestrator.reduce` computed; computes nothing."""
