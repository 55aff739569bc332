"""Tables, figures and pages of what was computed; computes nothing."""
