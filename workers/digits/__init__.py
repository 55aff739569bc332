"""The images of the embedded suite `digits-rib`, drawn from scikit-learn's handwritten digits."""
